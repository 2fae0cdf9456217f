import numpy as np
import pytest
from click.testing import CliRunner
from mmgkeras.cli import main
from PIL import Image

from mmgkeras import tables
from mmgkeras.errors import InputError
from mmgkeras.patches.region_masks import check_region, region_mask
from mmgkeras.schema import Grid
from mmgkeras.sources.phantom import write_phantom
from mmgkeras.sources.phantom.calcifications import VISIBLE_SNR, signal_to_noise
from mmgkeras.sources.phantom.cases import plan_exposures
from mmgkeras.sources.phantom.exposure import make_image

from .spectrum import spectrum_slope

SPACING_MM = 0.3


@pytest.fixture(scope="module")
def images():
    """Exposure and image, three of each side and view."""
    chosen = {}
    for exposure in plan_exposures(num_patients=30, seed=3):
        chosen.setdefault((exposure.laterality, exposure.view), []).append(exposure)
    exposures = [exposure for group in chosen.values() for exposure in group[:3]]
    return [(exposure, make_image(exposure, spacing_mm=SPACING_MM)) for exposure in exposures]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("phantom") / "data"
    write_phantom(path, num_patients=2, seed=3, spacing_mm=SPACING_MM, has_twins=True)
    return path


def test_fixture_has_both_sides_and_views_and_calcifications(images):
    assert len({(exposure.laterality, exposure.view) for exposure, _ in images}) == 4
    assert sum(len(image.marks) for _, image in images) > 50


def test_same_seed_gives_the_same_image(images):
    exposure, image = images[0]
    again = make_image(exposure, spacing_mm=SPACING_MM)
    np.testing.assert_array_equal(again.pixels, image.pixels)
    assert again.regions == image.regions


def test_other_seed_gives_another_image(images):
    _, image = images[0]
    other = make_image(plan_exposures(num_patients=1, seed=4)[0], spacing_mm=SPACING_MM)
    assert other.pixels.shape != image.pixels.shape or not np.array_equal(other.pixels, image.pixels)


def test_twin_differs_only_where_calcifications_are(images):
    for _, image in images:
        touched = np.zeros(image.pixels.shape, bool)
        for mark in image.marks:
            touched[mark.place] |= mark.signal > 0
        np.testing.assert_array_equal(image.pixels[~touched], image.twin[~touched])
        np.testing.assert_array_equal(image.noise_free[~touched], image.twin_noise_free[~touched])


def test_image_without_noise_is_the_twin_plus_every_calcification(images):
    for _, image in images:
        added = np.zeros(image.pixels.shape, np.float32)
        for mark in image.marks:
            added[mark.place] += mark.signal
        np.testing.assert_allclose(image.noise_free - image.twin_noise_free, added, atol=2e-5)


def test_truth_is_where_a_lone_calcification_adds_half_of_its_greatest_signal(images):
    checked = 0
    for _, image in images:
        count = np.zeros(image.pixels.shape, int)
        for mark in image.marks:
            count[mark.place] += 1
        added = image.noise_free - image.twin_noise_free
        masks = [region for region in image.regions if region.kind == "calcification"]
        for mark, region in zip(image.marks, masks, strict=True):
            if count[mark.place].max() > 1:
                continue
            drawn = region_mask(region, height=added.shape[0], width=added.shape[1])
            truth = np.zeros(added.shape, bool)
            truth[drawn.top : drawn.top + drawn.mask.shape[0], drawn.left : drawn.left + drawn.mask.shape[1]] = (
                drawn.mask
            )
            signal = added[mark.place]
            is_clear = np.abs(signal - 0.5 * signal.max()) > 1e-5
            np.testing.assert_array_equal(truth[mark.place][is_clear], (signal >= 0.5 * signal.max())[is_clear])
            assert truth.sum() == truth[mark.place].sum() > 0
            checked += 1
    assert checked >= 10


def test_no_calcification_is_below_visibility(images):
    for _, image in images:
        assert all(signal_to_noise(mark, image.noise) >= VISIBLE_SNR for mark in image.marks)


def test_regions_lie_in_their_image_and_tell_form_and_size(images):
    for _, image in images:
        height, width = image.pixels.shape
        for region in image.regions:
            check_region(region, height=height, width=width)
        names = [region.region_id for region in image.regions]
        assert len(set(names)) == len(names)
        assert all(name.endswith("mm") for name in names)


def test_envelopes_hold_five_marks_within_two_centimetres(images):
    envelopes = 0
    for _, image in images:
        for region in image.regions:
            if region.kind != "cluster":
                continue
            corners = np.array(region.points)
            widest = np.linalg.norm(corners[:, None] - corners[None, :], axis=-1).max() * SPACING_MM
            inside = [
                mark
                for mark in image.marks
                if (corners.min(axis=0) - 0.01 <= mark.centre).all()
                and (mark.centre <= corners.max(axis=0) + 0.01).all()
            ]
            assert widest <= 20.0 + 0.01
            assert len(inside) >= 5
            envelopes += 1
    assert envelopes > 0


def test_chest_wall_is_at_the_standard_edge_and_the_background_black(images):
    for exposure, image in images:
        edges = image.twin[:, 0].mean(), image.twin[:, -1].mean()
        wall, air = edges if exposure.laterality == "L" else edges[::-1]
        assert wall > 0.1
        assert air < 0.05
        assert np.mean(image.twin == 0) > 0.1


def test_tissue_has_the_spectrum_of_real_breasts(images):
    slopes = []
    for exposure, image in images:
        height, width = image.twin_noise_free.shape
        size = round(40 / SPACING_MM)
        left = round(8 / SPACING_MM) if exposure.laterality == "L" else width - size - round(8 / SPACING_MM)
        top = round(0.5 * height) - size // 2
        slopes.append(
            spectrum_slope(image.twin_noise_free[top : top + size, left : left + size], spacing_mm=SPACING_MM)
        )
    assert 2.7 < np.mean(slopes) < 3.6


def test_about_seven_percent_of_the_papers_patches_are_positive():
    positive, total = 0, 0
    for exposure in plan_exposures(num_patients=10, seed=12):
        image = make_image(exposure, spacing_mm=0.4)
        truth = np.zeros(image.pixels.shape, bool)
        for mark in image.marks:
            truth[mark.place] |= mark.truth
        side = "right" if exposure.laterality == "R" else "left"
        grid = Grid(*image.pixels.shape, patch_px=56, stride_px=56, chest_wall=side)
        labels = grid.cut(truth).any(axis=(2, 3))
        positive, total = positive + int(labels.sum()), total + labels.size
    assert 0.03 < positive / total < 0.11


def test_folder_reads_back(folder):
    records = tables.read_images(folder / "images.csv")
    regions = tables.read_regions(folder / "regions.csv")
    assert {record.annotation for record in records} == {"complete"}
    assert {record.spacing_mm for record in records} == {SPACING_MM}
    assert {region.image_id for region in regions} <= {record.image_id for record in records}
    assert [region for exposure in plan_exposures(num_patients=2, seed=3) for region in _regions(exposure)] == regions
    for record in records:
        with Image.open(folder / record.path) as image:
            assert image.mode == "L"


def _regions(exposure):
    return make_image(exposure, spacing_mm=SPACING_MM).regions


def test_twins_are_a_data_folder_of_the_same_images_without_regions(folder):
    assert tables.read_images(folder / "twins" / "images.csv") == tables.read_images(folder / "images.csv")
    assert tables.read_regions(folder / "twins" / "regions.csv") == []
    names = sorted(path.name for path in (folder / "images").iterdir())
    assert sorted(path.name for path in (folder / "twins" / "images").iterdir()) == names
    differ = [(folder / "images" / n).read_bytes() != (folder / "twins" / "images" / n).read_bytes() for n in names]
    assert any(differ)


def test_bytes_depend_neither_on_the_workers_nor_on_the_number_of_patients(folder, tmp_path):
    write_phantom(tmp_path / "one", num_patients=1, seed=3, spacing_mm=SPACING_MM, num_workers=2)
    for path in (tmp_path / "one" / "images").iterdir():
        assert path.read_bytes() == (folder / "images" / path.name).read_bytes()
    assert not (tmp_path / "one" / "twins").exists()


def test_of_two_pixel_sizes_each_patient_has_one_and_its_images_are_as_by_it_alone(tmp_path):
    write_phantom(tmp_path / "both", num_patients=3, seed=3, spacing_mm=(1.0, 0.8))
    write_phantom(tmp_path / "alone", num_patients=3, seed=3, spacing_mm=1.0)
    records = tables.read_images(tmp_path / "both" / "images.csv")
    sizes_mm = {"P0001": 1.0, "P0002": 0.8, "P0003": 1.0}
    assert [record.spacing_mm for record in records] == [sizes_mm[record.patient_id] for record in records]
    for record in records:
        both, alone = ((tmp_path / name / record.path).read_bytes() for name in ("both", "alone"))
        assert (both == alone) is (record.spacing_mm == 1.0)
    truths = [tables.read_regions(tmp_path / name / "regions.csv") for name in ("both", "alone")]
    both, alone = ([region for region in truth if not region.image_id.startswith("P0002")] for truth in truths)
    assert both == alone != []


def test_sixteen_bits_use_the_full_range(tmp_path):
    write_phantom(tmp_path / "deep", num_patients=1, seed=3, spacing_mm=1.0, bits=16)
    path = next((tmp_path / "deep" / "images").iterdir())
    with Image.open(path) as image:
        pixels = np.asarray(image)
    assert pixels.dtype == np.uint16
    assert pixels.max() > 30000


def test_existing_folder_is_refused_and_left_alone(folder):
    before = (folder / "images.csv").read_bytes()
    with pytest.raises(InputError, match="already exists"):
        write_phantom(folder, num_patients=1, seed=0, spacing_mm=1.0)
    assert (folder / "images.csv").read_bytes() == before


@pytest.mark.parametrize("spacing_mm", [0.04, 1.5, (0.1, 1.5), ()])
def test_pixel_out_of_range_is_refused(tmp_path, spacing_mm):
    with pytest.raises(InputError, match=r"spacing_mm of a phantom must be 0.05 to 1.0. Received: "):
        write_phantom(tmp_path / "none", num_patients=1, seed=0, spacing_mm=spacing_mm)
    assert not (tmp_path / "none").exists()


def test_command_writes_the_folder_and_says_how_much(tmp_path):
    out = tmp_path / "data"
    options = ["phantom", "--out", str(out), "--patients", "1", "--seed", "3", "--spacing-mm", "1.0"]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{out}: 1 patient, ")
    again = CliRunner().invoke(main, options)
    assert again.exit_code == 1
    assert "already exists" in again.stderr
