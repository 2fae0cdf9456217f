import json
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from mmgkeras import images
from mmgkeras.config import Config, ModelConfig, PhantomConfig, read_config
from mmgkeras.errors import InputError, WeightsError
from mmgkeras.inference.detection import detect
from mmgkeras.models.network import build_network
from mmgkeras.models.weights import DETECTOR_FOLDER, PROVENANCE, WEIGHTS, save_detector
from mmgkeras.savedmodel.classifier import load
from mmgkeras.savedmodel.detector import FINER, load_with_finer, model_folder, read_detector, read_finer
from mmgkeras.savedmodel.metadata import ModelMetadata, read_metadata
from mmgkeras.sources.phantom import GENERATOR_VERSION, write_phantom
from mmgkeras.sources.phantom import PROVENANCE as PHANTOM_JSON
from mmgkeras.study.run_files import Origin
from mmgkeras.tables import read_images, read_regions

CONFIGS = Path(__file__).parents[2] / "configs"
SECTIONS = ("patches", "augmentation", "model", "train")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
CONFIG = ModelConfig(network="resnet18", weights="none", width=0.25, normalisation="local", pooling="log_mean_exp")
FALSE_MARKS = [
    {"per_image": 0.1, "threshold": 0.9, "sensitivity": 0.4, "cluster_sensitivity": 0.5},
    {"per_image": 1.0, "threshold": 0.5, "sensitivity": 0.8, "cluster_sensitivity": 0.9},
]
ORIGIN = Origin(store_checksum="0" * 64, fold=1, test_patients_sha256="1" * 64, variables_sha256="2" * 64)
FINER_CHANGES = {
    "patch_px": 96,
    "stride_px": 72,
    "spacing_mm": 0.4 / 3,
    "store_checksum": "3" * 64,
    "started_from": (ORIGIN,),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    keras.utils.set_random_seed(3)
    metadata = ModelMetadata(
        network="resnet18",
        patch_px=64,
        stride_px=48,
        pixel_type="uint8",
        spacing_mm=0.2,
        fold=1,
        test_subset="A",
        test_patients_sha256="1" * 64,
        store_checksum="0" * 64,
        config=Config(model=CONFIG).model_dump(mode="json"),
    )
    finer = metadata.model_copy(update=FINER_CHANGES)
    for place, one, judged in (
        (folder, metadata, {"false_marks": FALSE_MARKS, "judged_on": "phantoms"}),
        (folder / FINER, finer, {}),
    ):
        place.mkdir(exist_ok=True)
        network = build_network(CONFIG, patch_px=one.patch_px, pixel_type="uint8")
        provenance = {"metadata": one.model_dump(mode="json"), "phantom": {"seed": 101}, **judged}
        save_detector(network, CONFIG, place, provenance=provenance)
    return folder


def test_the_word_is_the_detector_exported_once_and_any_other_name_is_a_folder(weights: Path, tmp_path: Path) -> None:
    folder = model_folder(Path("detector"), cache=tmp_path, weights=weights)
    written = (folder / "saved_model.pb").stat().st_mtime_ns
    assert model_folder(Path("detector"), cache=tmp_path, weights=weights) == folder
    assert (folder / "saved_model.pb").stat().st_mtime_ns == written
    assert model_folder(Path("mine/1"), cache=tmp_path, weights=weights) == Path("mine/1")


def test_the_exported_one_takes_8_and_16_bits_alike(weights: Path, tmp_path: Path) -> None:
    classifier = load(model_folder(Path("detector"), cache=tmp_path, weights=weights))
    patches = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 1), dtype=np.uint8)
    eight, sixteen = classifier.classify(patches), classifier.classify(patches.astype(np.uint16) * 257)
    np.testing.assert_array_equal(eight, sixteen)
    assert classifier.can_localise
    assert (classifier.metadata.spacing_mm, classifier.metadata.stride_px) == (0.2, 48)


def test_beside_it_lies_the_one_for_smaller_pixels_with_weights_of_its_own(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_folder(Path("detector"), cache=tmp_path, weights=weights)
    both = load_with_finer(folder)
    finer = both.finer
    assert finer is not None
    assert (finer.metadata.patch_px, finer.metadata.stride_px) == (96, 72)
    assert finer.metadata.spacing_mm == pytest.approx(0.4 / 3)
    assert (finer.metadata.pixel_type, finer.metadata.threshold) == ("uint16", both.metadata.threshold)
    assert finer.finer is None
    blank = np.zeros((1, 96, 96, 1), np.uint8)
    assert finer.classify(blank) != both.classify(blank[:, :64, :64])
    assert finer.path == model_folder(Path("detector-finer"), cache=tmp_path, weights=weights)
    assert load(folder).finer is None
    alone = shutil.copytree(folder, tmp_path / "alone" / "1")
    assert load_with_finer(alone).finer is None
    monkeypatch.chdir(folder)
    assert load_with_finer(Path()).finer is not None
    assert load_with_finer(finer.path).finer is None


def test_what_lies_there_and_did_not_go_on_from_it_is_left_alone(
    export_mean_model: Callable[..., Path], tmp_path: Path
) -> None:
    model = export_mean_model(tmp_path / "mine" / "1")
    origin = ORIGIN.model_copy(update={"store_checksum": read_metadata(model).store_checksum})
    right = {"patch_px": 12, "stride_px": 12, "spacing_mm": 0.4 / 3, "started_from": (origin,)}
    for changes, is_taken in (
        (right, True),
        (right | {"started_from": (ORIGIN.model_copy(update={"store_checksum": "4" * 64}),)}, False),
        (right | {"started_from": ()}, False),
        (right | {"patch_px": 16}, False),
        (right | {"spacing_mm": 0.2, "patch_px": 8, "stride_px": 8}, False),
        (right | {"spacing_mm": None}, False),
    ):
        finer = export_mean_model(tmp_path / "mine-finer" / "1", changes=changes)
        assert (load_with_finer(model).finer is not None) == is_taken, changes
        shutil.rmtree(finer)
    finer.mkdir()
    (finer / "saved_model.pb").write_bytes(b"of another program")
    assert load_with_finer(model).finer is None


def test_its_threshold_is_that_of_half_a_false_mark_an_image(weights: Path, tmp_path: Path) -> None:
    record = read_detector(weights)
    assert record.threshold(0.1) == pytest.approx(0.9)
    assert record.threshold(1.0) == pytest.approx(0.5)
    assert record.threshold(50) == pytest.approx(0.5)
    assert 0.5 < record.threshold(0.5) < 0.9
    classifier = load(model_folder(Path("detector"), cache=tmp_path, weights=weights))
    assert classifier.metadata.threshold == pytest.approx(record.threshold(0.5))


def test_other_thresholds_of_the_same_weights_are_exported_anew(weights: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(weights, tmp_path / "weights")
    described = json.loads((changed / PROVENANCE).read_text())
    (changed / PROVENANCE).write_text(json.dumps(described | {"false_marks": [FALSE_MARKS[0], FALSE_MARKS[0]]}))
    folders = [model_folder(Path("detector"), cache=tmp_path / "cache", weights=place) for place in (weights, changed)]
    assert [load(folder).metadata.threshold for folder in folders] == pytest.approx(
        [read_detector(weights).threshold(0.5), 0.9]
    )


def test_a_damaged_record_is_one_line(weights: Path, tmp_path: Path) -> None:
    shutil.copytree(weights, tmp_path, dirs_exist_ok=True)
    for place, key, read in ((tmp_path, "false_marks", read_detector), (tmp_path / FINER, "metadata", read_finer)):
        described = json.loads((place / PROVENANCE).read_text())
        (place / PROVENANCE).write_text(json.dumps(described | {key: []}))
        with pytest.raises(InputError, match=rf"detector.json: {key}"):
            read(tmp_path)


def test_without_weights_the_line_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="make detector trains it"):
        model_folder(Path("detector"), weights=tmp_path)


class TestShipped:
    """The weights in the package: what made them can be held against what is here."""

    def test_they_are_small_and_come_from_the_recipe_with_nothing_before_it(self) -> None:
        record = read_detector()
        recipe = read_config(CONFIGS / "detector.toml", overrides=["train.seed=1"])
        said = Config.model_validate({name: record.metadata.config[name] for name in SECTIONS})  # newer keys: as before
        assert record.metadata.started_from == ()
        assert said.model_dump(include=set(SECTIONS)) == recipe.model_dump(include=set(SECTIONS))
        assert (DETECTOR_FOLDER / WEIGHTS).stat().st_size <= 24e6

    def test_the_finer_ones_went_on_from_them_on_a_part_of_their_phantoms(self) -> None:
        record, finer = read_detector(), read_finer()
        recipe = read_config(CONFIGS / "detector-finer.toml")
        said = Config.model_validate({name: finer.metadata.config[name] for name in SECTIONS})
        (origin,) = finer.metadata.started_from
        assert (origin.store_checksum, origin.variables_sha256) == (
            record.metadata.store_checksum,
            record.weights_sha256,
        )
        made = ({**one.phantom, "pixels_sha256": ""} for one in (record, finer))  # by unlike processors
        assert next(made) == next(made)
        assert said.model_dump(include={"patches", "augmentation", "train"}) == recipe.model_dump(
            include={"patches", "augmentation", "train"}
        )
        assert finer.metadata.config["model"]["weights"] == recipe.model.weights == "detector"

    def test_their_phantoms_are_those_that_the_generator_makes(self, tmp_path: Path) -> None:
        said = read_detector().phantom
        config = PhantomConfig(**said["phantom"])
        assert config == read_config(CONFIGS / "detector.toml").phantom
        assert said["generator_version"] == GENERATOR_VERSION
        write_phantom(
            tmp_path / "data", num_patients=1, seed=said["seed"], spacing_mm=said["spacing_mm"], config=config
        )
        again = json.loads((tmp_path / "data" / PHANTOM_JSON).read_text())
        assert again["first_image_sha256"] == said["first_image_sha256"]

    @pytest.mark.parametrize("spacing_mm", [0.2, 0.13])
    def test_they_find_clusters_of_a_phantom_of_another_seed_and_mark_little_else(
        self, tmp_path: Path, spacing_mm: float
    ) -> None:
        write_phantom(tmp_path / "data", num_patients=2, seed=77, spacing_mm=spacing_mm)
        classifier = load_with_finer(model_folder(Path("detector"), cache=tmp_path))
        records = read_images(tmp_path / "data" / "images.csv")
        means = {
            r.image_id: detect([classifier], images.read(r, tmp_path / "data")).score_map.stitch() for r in records
        }
        heights = {record.image_id: images.read(record, tmp_path / "data").pixels.shape[0] for record in records}
        clusters = [r for r in read_regions(tmp_path / "data" / "regions.csv") if r.kind == "cluster"]
        found = 0
        for cluster in clusters:
            mean = means[cluster.image_id]
            middle = np.mean(cluster.points, axis=0) * len(mean) / heights[cluster.image_id]
            found += bool(mean[tuple(middle.astype(int))] >= classifier.metadata.threshold)
        part = np.mean([(mean >= classifier.metadata.threshold).mean() for mean in means.values()])
        assert found >= len(clusters) / 2
        assert part < 0.1
