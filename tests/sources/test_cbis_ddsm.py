"""The CBIS-DDSM importer, on small made-up folders, on the real case lists and on a real film."""

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import SecondaryCaptureImageStorage

from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputError
from mmgkeras.images import read_pixels
from mmgkeras.patches.labelling import label_patches
from mmgkeras.patches.region_masks import region_mask
from mmgkeras.schema import Grid, ImageRecord, Region
from mmgkeras.sources.cbis_ddsm import read_cbis_ddsm
from mmgkeras.sources.data_set import ImportReport, import_data_set
from mmgkeras.tables import read_images, read_regions
from tests.images.dicom_files import file_of, mammogram

SHAPE = (90, 60)
COLUMNS = {
    "calcification": ["breast density", "calc type", "calc distribution"],
    "mass": ["breast_density", "mass shape", "mass margins"],
}
SERIES = "1.3.6.1.4.1.9590.100.1.2.85935434310203356712688695661986996009"


def imported(source: Path, out: Path) -> tuple[ImportReport, dict[str, ImageRecord], list[Region]]:
    report = import_data_set("CBIS-DDSM", read_cbis_ddsm, source, out)
    records = {record.image_id: record for record in read_images(out / "images.csv")}
    return report, records, read_regions(out / "regions.csv")


def film(**attributes: object) -> bytes:
    """A film as CBIS-DDSM has it: Secondary Capture of modality MG, the view in Patient Orientation, 16 bits."""
    rows, cols = np.ogrid[: SHAPE[0], : SHAPE[1]]
    stored = np.where((rows - 45) ** 2 + cols**2 < 38**2, 30000 + 100 * rows + cols, 0)
    values = {"PatientOrientation": "CC", "Laterality": "L", "PresentationIntentType": None, **attributes}
    return file_of(mammogram(stored, bits=16, SOPClassUID=SecondaryCaptureImageStorage, **values))


def mask_file(covered: np.ndarray) -> bytes:
    dataset = mammogram(covered * 255, bits=8, SOPClassUID=SecondaryCaptureImageStorage, PresentationIntentType=None)
    return file_of(dataset)


def disc(shape: tuple[int, int], *, centre: tuple[int, int], radius: int) -> np.ndarray:
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    return (rows - centre[0]) ** 2 + (cols - centre[1]) ** 2 <= radius**2


def abnormality(folder: str, number: str = "1", **others: str) -> dict[str, str]:
    """A row of a case list; its paths name a file that no download has, and the last one ends in a newline."""
    patient, side, view = folder.split("_", 1)[1].rsplit("_", 2)
    return {
        "patient_id": patient,
        "left or right breast": side,
        "image view": view,
        "abnormality id": number,
        "abnormality type": "calcification" if folder.startswith("Calc") else "mass",
        "assessment": "4",
        "pathology": "BENIGN",
        "subtlety": "2",
        "image file path": f"{folder}/1.3.6/{SERIES}/000000.dcm",
        "cropped image file path": f"{folder}_{number}/1.3.6/{SERIES}1/000001.dcm\n",
        "ROI mask file path": f"{folder}_{number}/1.3.6/{SERIES}1/000000.dcm\n",
        **others,
    }


def case_list(path: Path, kind: str, rows: Sequence[Mapping[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=[*rows[0], *COLUMNS[kind]], restval="3")
        writer.writeheader()
        writer.writerows(rows)


def put(source: Path, folder: str, *files: bytes) -> None:
    """The files of a folder of the data set, as the NBIA Data Retriever lays them out."""
    place = source / "CBIS-DDSM" / folder / "08-29-2017-DDSM-NA-96009" / "1.000000-ROI mask images-18984"
    place.mkdir(parents=True)
    for number, data in enumerate(files, start=1):
        (place / f"1-{number}.dcm").write_bytes(data)


CALC = "Calc-Test_P_00038_LEFT_CC"
MARK = disc(SHAPE, centre=(40, 12), radius=6)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """One film with one calcification."""
    source = tmp_path / "source"
    source.mkdir()
    case_list(source / "calc_case_description_test_set.csv", "calcification", [abnormality(CALC)])
    put(source, CALC, film())
    put(source, f"{CALC}_1", film(), mask_file(MARK))
    return source


class TestMadeUp:
    def test_film_and_mask_become_a_record_and_a_cluster_region(self, source: Path, tmp_path: Path) -> None:
        report, records, (region,) = imported(source, tmp_path / "out")
        record = records["P_00038_LEFT_CC"]
        assert (record.patient_id, record.laterality, record.view) == ("P_00038", "L", "CC")
        assert (record.annotation, record.density, record.birads) == ("partial", "C", "4")
        assert record.pathology == "calcification BENIGN"
        assert record.spacing_mm is None
        assert (region.image_id, region.region_id, region.kind) == ("P_00038_LEFT_CC", "calcification1", "cluster")
        covered = region_mask(region, height=SHAPE[0], width=SHAPE[1])
        np.testing.assert_array_equal(covered.mask, MARK[covered.window])
        assert covered.mask.sum() == MARK.sum()
        assert report.skipped == []
        assert read_pixels(tmp_path / "out" / record.path).dtype == np.uint16

    def test_resource_files_of_macos_are_passed_over(self, source: Path, tmp_path: Path) -> None:
        for path in [path for path in source.rglob("*") if path.is_file()]:
            path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07")
        report, records, regions = imported(source, tmp_path / "out")
        assert (list(records), len(regions), report.skipped) == (["P_00038_LEFT_CC"], 1, [])

    def test_patch_labels_of_the_region_are_those_of_the_mask(self, source: Path, tmp_path: Path) -> None:
        _, records, regions = imported(source, tmp_path / "out")
        grid = Grid(*SHAPE, 10, 10, "left")
        labels = label_patches(
            grid, regions, record=records["P_00038_LEFT_CC"], config=PatchesConfig(patch_px=10, cluster_fraction=0.5)
        )
        share = grid.cut(MARK).mean(axis=(2, 3))
        np.testing.assert_array_equal(labels == 1, share >= 0.5 * min(MARK.sum() / 100, 1))

    def test_mask_of_another_size_is_brought_to_that_of_the_film(self, source: Path, tmp_path: Path) -> None:
        shutil.rmtree(source / "CBIS-DDSM" / f"{CALC}_1")
        put(source, f"{CALC}_1", mask_file(np.kron(MARK, np.ones((2, 2), dtype=np.int64))))
        report, _, (region,) = imported(source, tmp_path / "out")
        covered = region_mask(region, height=SHAPE[0], width=SHAPE[1])
        np.testing.assert_array_equal(covered.mask, MARK[covered.window])
        (note,) = (note for note in report.notes if "is brought to the size" in note)
        assert "calc_case_description_test_set.csv:2: the mask of calcification1" in note

    def test_mass_is_other_and_film_of_both_lists_is_one_image(self, source: Path, tmp_path: Path) -> None:
        mass = "Mass-Training_P_00038_LEFT_CC"
        case_list(source / "mass_case_description_train_set.csv", "mass", [abnormality(mass, pathology="MALIGNANT")])
        put(source, mass, film())
        put(source, f"{mass}_1", mask_file(disc(SHAPE, centre=(60, 20), radius=5)))
        report, records, regions = imported(source, tmp_path / "out")
        assert list(records) == ["P_00038_LEFT_CC"]
        assert records["P_00038_LEFT_CC"].pathology == "calcification BENIGN; mass MALIGNANT"
        assert CALC in records["P_00038_LEFT_CC"].path
        assert [(region.region_id, region.kind) for region in regions] == [
            ("calcification1", "cluster"),
            ("mass1", "other"),
        ]
        assert report.skipped == []

    def test_several_abnormalities_of_a_film(self, source: Path, tmp_path: Path) -> None:
        rows = [abnormality(CALC), abnormality(CALC, "2", pathology="MALIGNANT", assessment="5")]
        case_list(source / "calc_case_description_test_set.csv", "calcification", rows)
        put(source, f"{CALC}_2", mask_file(disc(SHAPE, centre=(60, 20), radius=3)), film())
        report, records, regions = imported(source, tmp_path / "out")
        assert [region.region_id for region in regions] == ["calcification1", "calcification2"]
        assert records["P_00038_LEFT_CC"].birads == "4; 5"
        assert report.skipped == []

    def test_only_calcification_makes_annotation_partial(self, tmp_path: Path) -> None:
        source, mass = tmp_path / "source", "Mass-Test_P_00016_RIGHT_MLO"
        source.mkdir()
        case_list(source / "mass_case_description_test_set.csv", "mass", [abnormality(mass)])
        put(source, mass, film())
        put(source, f"{mass}_1", mask_file(MARK))
        _, records, _ = imported(source, tmp_path / "out")
        record = records["P_00016_RIGHT_MLO"]
        assert (record.annotation, record.laterality, record.view) == ("none", "R", "MLO")

    def test_files_are_found_by_series_and_by_patient_id(self, source: Path, tmp_path: Path) -> None:
        shutil.rmtree(source / "CBIS-DDSM")
        (source / "images" / f"{SERIES}1").mkdir(parents=True)
        (source / "images" / f"{SERIES}1" / "1-2.dcm").write_bytes(mask_file(MARK))
        (source / "images" / "1-130.dcm").write_bytes(film(PatientID=CALC))
        report, records, regions = imported(source, tmp_path / "out")
        assert (len(records), len(regions), report.skipped) == (1, 1, [])

    def test_jpeg_is_taken(self, source: Path, tmp_path: Path) -> None:
        shutil.rmtree(source / "CBIS-DDSM")
        for series, pixels in ((SERIES, np.full(SHAPE, 90)), (f"{SERIES}1", MARK * 255)):
            (source / "jpeg" / series).mkdir(parents=True)
            Image.fromarray(pixels.astype(np.uint8)).save(source / "jpeg" / series / "1-1.jpg", quality=95)
        report, _, (region,) = imported(source, tmp_path / "out")
        covered = region_mask(region, height=SHAPE[0], width=SHAPE[1])
        np.testing.assert_array_equal(covered.mask, MARK[covered.window])
        assert report.skipped == []


class TestSkipped:
    def lines(self, source: Path, tmp_path: Path) -> list[str]:
        report, _, _ = imported(source, tmp_path / "out")
        return report.skipped

    def test_row_without_a_film(self, source: Path, tmp_path: Path) -> None:
        rows = [abnormality(CALC), abnormality("Calc-Test_P_00041_LEFT_CC")]
        case_list(source / "calc_case_description_test_set.csv", "calcification", rows)
        (line,) = self.lines(source, tmp_path)
        assert line.endswith("test_set.csv:5: there is no image P_00041_LEFT_CC that can be read")

    def test_folder_without_a_black_and_white_image(self, source: Path, tmp_path: Path) -> None:
        shutil.rmtree(source / "CBIS-DDSM" / f"{CALC}_1")
        put(source, f"{CALC}_1", film())
        (line,) = self.lines(source, tmp_path)
        assert "must have a mask, black and white, of calcification1. Received: 1-1.dcm" in line

    def test_damaged_mask(self, source: Path, tmp_path: Path) -> None:
        shutil.rmtree(source / "CBIS-DDSM" / f"{CALC}_1")
        put(source, f"{CALC}_1", mask_file(MARK)[:-100])
        (line,) = self.lines(source, tmp_path)
        assert "1-1.dcm: is damaged" in line

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"abnormality type": "lump"}, "abnormality type must be one of calcification, mass. Received: 'lump'"),
            ({"image file path": "films/1.dcm"}, "image file path must begin with a folder such as Calc-Test_P_00038"),
        ],
    )
    def test_row_that_breaks_the_format(
        self, source: Path, tmp_path: Path, changes: dict[str, str], expected: str
    ) -> None:
        rows = [abnormality(CALC), abnormality(CALC, "2", **changes)]
        case_list(source / "calc_case_description_test_set.csv", "calcification", rows)
        (line,) = self.lines(source, tmp_path)
        assert f"test_set.csv:5: {expected}" in line

    def test_row_of_a_list_that_is_there_twice(self, source: Path, tmp_path: Path) -> None:
        (source / "csv").mkdir()
        shutil.copy(source / "calc_case_description_test_set.csv", source / "csv")
        (line,) = self.lines(source, tmp_path)
        assert line.endswith(
            "csv/calc_case_description_test_set.csv:2: calcification 1 of P_00038_LEFT_CC must appear once"
        )

    def test_folder_without_a_case_list_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="must hold case lists"):
            imported(tmp_path, tmp_path.with_name("out"))

    def test_folder_without_images_is_refused(self, source: Path, tmp_path: Path) -> None:
        shutil.rmtree(source / "CBIS-DDSM")
        with pytest.raises(InputError, match="must hold images such as"):
            imported(source, tmp_path / "out")


class TestRealFiles:
    def test_every_row_of_the_real_lists_is_taken(
        self, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("os.cpu_count", lambda: 1)  # so small pictures are read before processes have started
        source = tmp_path / "source"
        shutil.copytree(shared_data / "cbis-ddsm", source)
        pictures = tmp_path / "film.png", tmp_path / "mask.png"
        Image.fromarray(np.full((9, 9), 90, dtype=np.uint8)).save(pictures[0])
        Image.fromarray(np.eye(9, dtype=np.uint8) * 255).save(pictures[1])
        folders: set[str] = set()
        for path in source.glob("*.csv"):
            with path.open(newline="") as file:
                for row in csv.DictReader(file):
                    folders |= {row[column].partition("/")[0] for column in ("image file path", "ROI mask file path")}
        for folder in folders:
            (source / folder).mkdir()
            (source / folder / "1-1.png").hardlink_to(pictures[folder.count("_") == 5])
        report, records, regions = imported(source, tmp_path / "out")
        assert report.skipped == []
        assert (len(records), len(regions)) == (3032, 3568)
        assert len({record.patient_id for record in records.values()}) == 1566
        assert sum(region.kind == "cluster" for region in regions) == 1872
        counts = {count.what: count.here for count in report.counts}
        assert counts["patients with calcification"] == "753"
        assert counts["calcification: benign, malignant abnormalities"] == "664, 381"

    def test_a_real_film_is_taken(self, shared_data: Path, tmp_path: Path) -> None:
        source, mass = tmp_path / "source", "Mass-Test_P_00173_LEFT_CC"
        source.mkdir()
        shutil.copy(shared_data / "cbis-ddsm" / "mass_case_description_test_set.csv", source)
        (source / "film.dcm").symlink_to(shared_data / "dicom" / "cbis_Mass-Test_P_00173_LEFT_CC_rle.dcm")
        covered = disc((4432, 2864), centre=(2000, 900), radius=100)
        put(source, f"{mass}_1", mask_file(covered))
        _, records, (region,) = imported(source, tmp_path / "out")
        assert list(records) == ["P_00173_LEFT_CC"]
        assert region_mask(region, height=4432, width=2864).mask.sum() == covered.sum()
