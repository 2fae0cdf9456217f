"""What `check` says of a data folder."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgkeras.config import PatchesConfig
from mmgkeras.patches.check import DataReport, check_folder, read_folder
from mmgkeras.processes import Processes
from mmgkeras.schema import ImageRecord, Region
from mmgkeras.tables import write_images, write_labels, write_regions
from tests.images.dicom_files import file_of, mammogram

from .planted import make_clean, plant

CONFIG = PatchesConfig(patch_px=16)


def breast(*, side: str, value: int = 150) -> np.ndarray:
    """(40, 30) uint8 with a bright, uneven half disc at one edge; another value gives another disc."""
    rows, cols = np.mgrid[:40, :30]
    is_breast = ((rows - 20) / 18) ** 2 + (cols / (5 + value / 10)) ** 2 <= 1
    uneven = np.random.default_rng(value).integers(-40, 40, (20, 15)).repeat(2, axis=0).repeat(2, axis=1)
    pixels = np.where(is_breast, value + uneven, 0).astype(np.uint8)
    return pixels if side == "left" else pixels[:, ::-1]


def record(image_id: str, **changes: object) -> ImageRecord:
    values: dict[str, object] = {
        "image_id": image_id,
        "path": f"{image_id}.png",
        "patient_id": "p1",
        "laterality": "L",
        "view": "CC",
        "annotation": "complete",
        "spacing_mm": 0.1,
    }
    return ImageRecord(**(values | changes))


def point(image_id: str, row: float, col: float) -> Region:
    return Region(image_id, "r1", "calcification", "point", ((row, col),))


def checked(folder: Path, images: dict[ImageRecord, np.ndarray], *regions: Region) -> DataReport:
    for one, pixels in images.items():
        Image.fromarray(pixels).save(folder / one.path)
    write_images(folder / "images.csv", images)
    write_regions(folder / "regions.csv", regions)
    return check_folder(read_folder(folder, CONFIG))


def said(report: DataReport) -> list[str]:
    """What was found that is no fault, without its place."""
    return [finding.what for finding in report.findings if finding.severity != "fault"]


def test_good_folder_is_counted(tmp_path: Path) -> None:
    images = {
        record("a"): breast(side="left"),
        record("b", patient_id="p2", laterality="R", annotation="none"): breast(side="right", value=90),
    }
    report = checked(tmp_path, images, point("a", 20, 5))
    assert (report.faults, said(report)) == ([], [])
    assert (len(report.records), report.num_read, report.num_patients, report.num_annotations) == (2, 2, 2, 1)
    assert report.pixel_types == {"uint8": 2}
    assert report.sizes == {(40, 30): 2}
    assert report.sides == {"as told": 2}


def test_dicom_and_tiff_that_were_compressed_with_loss_are_counted(tmp_path: Path) -> None:
    pixels = breast(side="left").astype(np.uint16) * 16
    for name, told in (("a", "01"), ("b", "00")):
        (tmp_path / f"{name}.dcm").write_bytes(file_of(mammogram(pixels, LossyImageCompression=told)))
    Image.fromarray(breast(side="left", value=90)).save(tmp_path / "c.png", "JPEG")
    for name, compression in (("d", "jpeg"), ("e", "tiff_lzw")):
        Image.fromarray(breast(side="left", value=80)).save(tmp_path / f"{name}.tif", compression=compression)
    paths = ("a.dcm", "b.dcm", "c.png", "d.tif", "e.tif")
    write_images(tmp_path / "images.csv", [record(path[0], path=path) for path in paths])
    (finding,) = [one for one in check_folder(read_folder(tmp_path, CONFIG)).findings if "loss" in one.kind]
    assert finding.what.startswith("JPEG, or TIFF or DICOM of lossy compression: 3 of 5 images; where pixels are")


def test_a_path_that_holds_a_colon_and_a_blank_is_the_place_as_a_whole(tmp_path: Path) -> None:
    data = tmp_path / "screening: 2024"
    data.mkdir()
    first, second = record("a", path="left: a.png"), record("b", path="b.png", patient_id="p2")
    checked(data, {first: breast(side="left"), second: breast(side="left", value=90)}, point("b", 99, 5))
    (data / first.path).unlink()
    findings = check_folder(read_folder(data, CONFIG)).findings
    assert [(finding.place, finding.what[:10]) for finding in findings] == [
        (f"{data / first.path}", "cannot be "),
        (f"{data / 'regions.csv'}:2", "image b, r"),
    ]


def test_unreadable_images_are_faults_and_the_others_are_still_checked(tmp_path: Path) -> None:
    Image.fromarray(breast(side="left")).save(tmp_path / "a.png")
    (tmp_path / "b.png").touch()
    write_images(tmp_path / "images.csv", [record("c"), record("b"), record("a")])
    report = check_folder(read_folder(tmp_path, CONFIG))
    assert report.faults == [
        f"{tmp_path / 'c.png'}: cannot be read: No such file or directory",
        f"{tmp_path / 'b.png'}: is empty (0 bytes)",
    ]
    assert (len(report.records), report.num_read) == (3, 1)


def test_region_outside_its_image_is_a_fault(tmp_path: Path) -> None:
    report = checked(tmp_path, {record("a"): breast(side="left")}, point("a", 40, 5))
    (fault,) = report.faults
    assert fault.startswith(f"{tmp_path / 'regions.csv'}:2: image a, region r1: ")


def test_region_of_an_unlisted_image_is_a_fault(tmp_path: Path) -> None:
    report = checked(tmp_path, {record("a"): breast(side="left")}, point("z", 1, 1))
    (fault,) = report.faults
    assert "image_id 'z'" in fault


def test_label_outside_the_grid_is_a_fault(tmp_path: Path) -> None:
    Image.fromarray(breast(side="left")).save(tmp_path / "a.png")
    write_images(tmp_path / "images.csv", [record("a")])
    write_labels(tmp_path / "labels.csv", [("a", 2, 1, 1), ("a", 3, 0, 1)])
    report = check_folder(read_folder(tmp_path, CONFIG))
    (fault,) = report.faults
    assert "labels.csv:3: image a has 3 x 2 patches of 16 px" in fault
    assert report.num_annotations == 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"laterality": "R"}, "laterality R"),
        ({"chest_wall": "right"}, "chest_wall right"),
    ],
)
def test_other_chest_wall_by_the_pixels_is_a_remark(tmp_path: Path, changes: dict[str, str], told: str) -> None:
    report = checked(tmp_path, {record("a", **changes): breast(side="left")})
    assert report.faults == []
    (remark,) = said(report)
    assert remark.startswith("image a: ")
    assert told in remark
    assert report.sides == {"at the other edge": 1}


def test_image_without_a_breast_has_no_clear_side(tmp_path: Path) -> None:
    report = checked(tmp_path, {record("a"): np.zeros((40, 30), dtype=np.uint8)})
    assert report.sides == {"unclear": 1}
    assert said(report) == ["image a: holds nothing, its values are from 0 to 0"]


def test_mixed_depths_are_a_remark(tmp_path: Path) -> None:
    deep = breast(side="left", value=90).astype(np.uint16) * 257
    report = checked(tmp_path, {record("a"): breast(side="left"), record("b"): deep})
    (remark,) = said(report)
    assert "8-bit" in remark
    assert "x257" in remark


def test_ids_that_look_alike_are_a_remark(tmp_path: Path) -> None:
    images = {
        record("a", patient_id="p1"): breast(side="left"),
        record("b", patient_id="P1"): breast(side="left", value=90),
    }
    told = "differ only in Unicode form, case, width, invisible characters or leading zeros"
    assert said(checked(tmp_path, images)) == [f"patient ids 'p1', 'P1' {told}"]


def test_patient_ids_that_a_spreadsheet_shortened_are_a_remark(tmp_path: Path) -> None:
    images = {
        record("a", patient_id="1.23457E+11"): breast(side="left"),
        record("b", patient_id="1E11"): breast(side="left", value=90),
    }
    told = "patient ids are numbers that a spreadsheet shortened, so that several patients may be one: '1.23457E+11'"
    assert said(checked(tmp_path, images)) == [told]


@pytest.mark.parametrize(
    "patient_id", ["NA", "n/a", "nan", "None", "Unknown", "ANONYMOUS", "anonymized", "-", "removed"]
)
def test_patient_ids_that_say_nothing_are_a_remark(tmp_path: Path, patient_id: str) -> None:
    images = {
        record("a", patient_id=patient_id): breast(side="left"),
        record("b", patient_id="Nan1"): breast(side="left", value=90),
    }
    told = f"patient ids stand for a patient who is not known, so that several patients may be one: '{patient_id}'"
    assert said(checked(tmp_path, images)) == [told]


@pytest.mark.parametrize(("patient_id", "whose"), [("p1", "the same patient"), ("p2", "another patient")])
def test_identical_pixels_are_a_remark(tmp_path: Path, patient_id: str, whose: str) -> None:
    images = {record("a"): breast(side="left"), record("b", patient_id=patient_id): breast(side="left")}
    (remark,) = said(checked(tmp_path, images))
    assert remark.startswith("image b: ")
    assert whose in remark


def test_marks_on_an_image_called_normal_are_a_remark(tmp_path: Path) -> None:
    report = checked(tmp_path, {record("a", pathology="normal"): breast(side="left")}, point("a", 20, 5))
    (remark,) = said(report)
    assert remark.startswith("image a: ")


def test_faults_of_single_rows_do_not_hide_what_the_others_tell(tmp_path: Path) -> None:
    images = {record(name): breast(side="left", value=value) for name, value in (("a", 90), ("b", 120), ("c", 150))}
    checked(tmp_path, images, point("a", 20, 5), point("b", 39, 29))
    text = (tmp_path / "images.csv").read_text().replace("a,a.png,p1,L", "a,a.png,p1,X")
    (tmp_path / "images.csv").write_text(text + "c,c.png\n")
    with (tmp_path / "regions.csv").open("a") as file:
        file.write("c,1,disc,point,4\n")
    report = check_folder(read_folder(tmp_path, CONFIG))
    path = tmp_path / "images.csv"
    assert report.faults == [
        f"{path}:5: a row must have 13 fields, as the header has. Received: 2",
        f"{path}:2: laterality must be one of L, R. Received: 'X'",
        f"{tmp_path}/regions.csv:4: kind must be one of calcification, cluster, other. Received: 'disc'",
        f'{tmp_path}/regions.csv:4: points must be pairs of numbers, none beyond 1,000,000,000, such as "10,20 30,40". '
        "Received: '4'",
    ]
    assert report.num_read == 2
    assert [(finding.kind, finding.place) for finding in report.findings[4:]] == [
        ("region off the breast", f"{tmp_path}/regions.csv:3")
    ]


def test_a_region_at_fault_does_not_hide_what_the_image_tells_besides(tmp_path: Path) -> None:
    regions = (point("a", 99, 5), replace(point("a", 39, 29), region_id="r2"))
    report = checked(tmp_path, {record("a", pathology="normal"): breast(side="left")}, *regions)
    assert [(finding.kind, finding.place.rpartition("/")[2]) for finding in report.findings] == [
        ("annotation", "regions.csv:2"),
        ("region off the breast", "regions.csv:3"),
        ("called normal", "images.csv:2"),
    ]


def test_what_is_told_of_a_region_has_its_line(tmp_path: Path) -> None:
    circle = Region("a", "o1", "other", "circle", ((20, 2), (6, 6)))
    on_corner = cluster("a", 21, 13, 26, 18)
    report = checked(tmp_path, {record("a"): breast(side="left")}, circle, on_corner, point("z", 1, 1))
    assert {finding.kind: finding.place.rpartition("/")[2] for finding in report.findings} == {
        "unknown image": "regions.csv:4",
        "region beyond the image": "regions.csv:2",
        "no positive patch": "regions.csv:3",
    }


@pytest.mark.parametrize(
    ("pathology", "is_told"),
    [
        ("CALC B", True),
        ("mass, pleomorphic calcification", True),
        ("no mass, calcification", True),
        ("no calcification", False),
        ("mass without calcifications", False),
        ("No suspicious calcifications", False),
        ("non-calcified mass", False),
        ("noncalcified mass", False),
    ],
)
def test_pathology_of_calcification_without_a_mark_is_a_remark(tmp_path: Path, pathology: str, is_told: bool) -> None:
    other = {record("b"): breast(side="left", value=90)}
    report = checked(tmp_path, {record("a", pathology=pathology): breast(side="left")} | other, point("b", 20, 5))
    kinds = [finding.kind for finding in report.findings]
    assert kinds == ["called calcified"] * is_told


def test_a_table_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "images.csv").write_text("image_id,path\n")
    report = check_folder(read_folder(tmp_path, CONFIG))
    assert report.num_read == 0
    assert [fault.split(". Received")[0] for fault in report.faults] == [
        f"{tmp_path}/images.csv:1: column {name} is missing"
        for name in ("patient_id", "laterality", "view", "annotation")
    ]


def test_an_image_called_calcified_without_a_mark_is_a_warning(tmp_path: Path) -> None:
    images = {record("a", pathology="CALC B"): breast(side="left"), record("b"): breast(side="left", value=90)}
    assert said(checked(tmp_path, images)) == ["image a: pathology is 'CALC B', but no calcification is marked"]
    (tmp_path / "marked").mkdir()
    assert said(checked(tmp_path / "marked", images, point("a", 20, 5))) == []


@pytest.mark.parametrize(
    ("sizes", "model_mm", "told"),
    [
        ((None, 0.1), None, ["spacing_mm is missing for 1 of 2 images"]),
        ((0.1, 0.11), None, []),
        ((0.1, 0.13), None, ["pixels differ in size by over 20 %: 0.1 to 0.13 mm"]),
        ((0.1, 100.0), None, ["image b: spacing_mm is 100; by the other images it should be from"]),
        (
            (0.1, 0.1),
            0.2,
            ["pixels of 0.1 to 0.1 mm in 2 of 2 images, the model 0.2 mm: prepare with patches.spacing_mm=0.2"],
        ),
        ((0.1, 0.1), 0.11, []),
    ],
)
def test_pixel_sizes(
    tmp_path: Path, sizes: tuple[float | None, float], model_mm: float | None, told: list[str]
) -> None:
    images = {
        record(name, spacing_mm=mm): breast(side="left", value=v)
        for name, mm, v in zip("ab", sizes, (90, 150), strict=True)
    }
    checked(tmp_path, images)
    found = said(check_folder(read_folder(tmp_path, CONFIG), model_mm=model_mm))
    assert len(found) == len(told)
    assert all(line.startswith(start) for line, start in zip(found, told, strict=True))


def test_a_clean_folder_has_no_findings_and_one_with_faults_just_these(tmp_path: Path) -> None:
    folder = make_clean(tmp_path / "data", spacing_mm=0.5)
    assert check_folder(read_folder(folder, PatchesConfig())).findings == []
    planted = plant(folder)
    page = Path(__file__).parents[2] / "docs" / "check.md"
    assert f" plants {len(planted)} faults " in " ".join(page.read_text().split())
    report = check_folder(read_folder(folder, PatchesConfig()), workers=Processes(2))
    assert Counter((finding.image_id or "", finding.kind) for finding in report.findings) == Counter(planted)


def cluster(image_id: str, top: float, left: float, bottom: float, right: float) -> Region:
    return Region(image_id, "c1", "cluster", "box", ((top, left), (bottom, right)))


def test_a_cluster_region_in_no_positive_patch_is_a_remark(tmp_path: Path) -> None:
    # The grid of a left breast begins at the bottom left: patches meet at row 8 and 24 and column 16.
    on_corner = cluster("a", 21, 13, 26, 18)
    report = checked(tmp_path, {record("a"): breast(side="left")}, on_corner)
    assert report.faults == []
    assert said(report) == ["image a: cluster region c1 lies in no positive patch; a patch holds at most 25% of it"]
    assert report.unplaced == [("a", "c1")]


@pytest.mark.parametrize("marked", [cluster("a", 12, 3, 18, 9), point("a", 22, 14)])
def test_a_cluster_region_in_or_beside_a_positive_patch_is_none(tmp_path: Path, marked: Region) -> None:
    regions = [marked] if marked.kind == "cluster" else [cluster("a", 21, 13, 26, 18), marked]
    assert said(checked(tmp_path, {record("a"): breast(side="left")}, *regions)) == []


def test_each_of_many_images_that_are_nearly_the_same_is_named_with_the_first(tmp_path: Path) -> None:
    images = {}
    for number, patient_id in enumerate(["p1", "p1", "p2", "p2", "p3"]):
        pixels = breast(side="left")
        pixels[0, 29] = number
        images[record("abcde"[number], patient_id=patient_id)] = pixels
    assert sorted(what for what in said(checked(tmp_path, images)) if "nearly" in what) == [
        "image b: is nearly the same as a, of the same patient",
        "image c: is nearly the same as a, of another patient: keep them in one fold",
        "image d: is nearly the same as a, of another patient: keep them in one fold",
        "image d: is nearly the same as c, of the same patient",
        "image e: is nearly the same as a, of another patient: keep them in one fold",
    ]
