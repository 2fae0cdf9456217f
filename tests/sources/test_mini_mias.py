"""The mini-MIAS importer, on small made-up folders and on the real films."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgkeras.errors import InputError
from mmgkeras.images import estimate_chest_wall, find_breast, read_pixels
from mmgkeras.schema import Region
from mmgkeras.sources.data_set import ImportReport, import_data_set
from mmgkeras.sources.mini_mias import read_mini_mias
from mmgkeras.tables import read_images, read_regions

PROSE = """Thank you for downloading.
1st column: MIAS database reference number.
    mdb numbers are pairs.
NOTES
=====
"""


@pytest.fixture(scope="module")
def film() -> np.ndarray:
    """(1024, 1024) uint8: a breast at columns 200 to 599 of the whole height, black beside it."""
    pixels = np.zeros((1024, 1024), dtype=np.uint8)
    pixels[:, 200:600] = 120
    return pixels


def import_mini_mias(source: Path, out: Path, *, overwrite: bool = False) -> ImportReport:
    return import_data_set("mini-MIAS", read_mini_mias, source, out, overwrite=overwrite)


def database(folder: Path, rows: str, film: np.ndarray, *, films: tuple[int, ...]) -> Path:
    (folder / "pgm").mkdir()
    (folder / "Info.txt").write_text(PROSE + rows, encoding="ascii")
    for number in films:
        Image.fromarray(film).save(folder / "pgm" / f"mdb{number:03d}.pgm")
    return folder


class TestMadeUp:
    def imported(self, tmp_path: Path, rows: str, film: np.ndarray, *, films: tuple[int, ...]) -> ImportReport:
        source = tmp_path / "source"
        source.mkdir()
        return import_mini_mias(database(source, rows, film, films=films), tmp_path / "out")

    def test_odd_film_is_a_left_breast_with_its_chest_wall_right(self, tmp_path: Path, film: np.ndarray) -> None:
        self.imported(tmp_path, "mdb003 D NORM \nmdb004 F CIRC M 500 500 20\n", film, films=(3, 4))
        odd, even = read_images(tmp_path / "out" / "images.csv")
        assert (odd.laterality, odd.chest_wall) == ("L", "right")
        assert (even.laterality, even.chest_wall) == ("R", "left")
        assert odd.patient_id == even.patient_id == "mdb003-004"
        assert {odd.view, even.view} == {"MLO"}
        assert {odd.spacing_mm, even.spacing_mm} == {0.2}
        assert (odd.density, even.density) == ("dense-glandular", "fatty")

    def test_path_leads_from_the_data_folder_to_the_film(self, tmp_path: Path, film: np.ndarray) -> None:
        self.imported(tmp_path, "mdb003 D NORM\n", film, films=(3,))
        (record,) = read_images(tmp_path / "out" / "images.csv")
        assert record.path == "../source/pgm/mdb003.pgm"
        np.testing.assert_array_equal(read_pixels(tmp_path / "out" / record.path), film)

    def test_circle_counts_rows_from_the_top(self, tmp_path: Path, film: np.ndarray) -> None:
        report = self.imported(tmp_path, "mdb001 G CALC M 300 1000 17\n", film, films=(1,))
        assert (report.num_images, report.num_regions, report.skipped) == (1, 1, [])
        expected = Region("mdb001", "c1", "cluster", "circle", ((24.0, 300.0), (17.0, 17.0)))
        assert read_regions(tmp_path / "out" / "regions.csv") == [expected]

    def test_only_films_without_any_finding_are_called_normal(self, tmp_path: Path, film: np.ndarray) -> None:
        rows = "mdb001 G CALC M 300 500 17\nmdb002 G NORM\nmdb003 F CIRC B\nmdb004 G MISC M 300 300 9\n"
        self.imported(tmp_path, rows + "mdb004 G MISC B 310 310 9\n", film, films=(1, 2, 3, 4))
        records = read_images(tmp_path / "out" / "images.csv")
        assert [record.pathology for record in records] == ["CALC M", "normal", "CIRC B", "MISC B; MISC M"]
        assert [record.is_called_normal for record in records] == [False, True, False, False]
        assert [record.annotation for record in records] == ["partial", "none", "none", "none"]

    def test_several_clusters_of_a_film_are_numbered(self, tmp_path: Path, film: np.ndarray) -> None:
        rows = "mdb001 G CALC M 300 500 17\nmdb001 G CALC M 400 600 8\n"
        self.imported(tmp_path, rows, film, films=(1,))
        regions = read_regions(tmp_path / "out" / "regions.csv")
        assert [region.region_id for region in regions] == ["c1", "c2"]

    def test_calcification_without_a_place_is_noted_and_not_normal(self, tmp_path: Path, film: np.ndarray) -> None:
        report = self.imported(tmp_path, "mdb001 G CALC M *NOTE 3*\n", film, films=(1,))
        assert report.skipped == []
        assert [note for note in report.notes if note.startswith("mdb001: ")]
        (record,) = read_images(tmp_path / "out" / "images.csv")
        assert (record.annotation, record.pathology) == ("none", "CALC M")

    def test_circle_in_the_background_is_noted_and_not_used(self, tmp_path: Path, film: np.ndarray) -> None:
        report = self.imported(tmp_path, "mdb001 G CALC M 800 500 10\n", film, films=(1,))
        assert (report.num_regions, report.skipped) == (0, [])
        (note,) = (note for note in report.notes if note.startswith("mdb001: "))
        assert "row 524, column 800" in note
        assert read_images(tmp_path / "out" / "images.csv")[0].annotation == "none"

    @pytest.mark.parametrize(
        ("rows", "films", "expected"),
        [
            ("mdb001 G NORM\nmdb002 G NORM\n", (1,), "mdb002.pgm is missing"),
            ("mdb001 G NORM\n", (1, 2), "mdb002.pgm: "),
            ("mdb001 G NORM\nmdb002 G BLOB B 1 2 3\n", (1,), "Received: 'mdb002 G BLOB B 1 2 3'"),
            ("mdb001 G NORM\nmdb002 G CALC B 1 2\n", (1,), "Info.txt:7: "),
            ("mdb001 G CALC B 300 500 0\n", (1,), "Info.txt:6: image mdb001, region c1: "),
            ("mdb001 G CALC B 2000 500 5\n", (1,), "Info.txt:6: image mdb001, region c1: "),
        ],
    )
    def test_unusable_rows_and_films_are_listed(
        self, tmp_path: Path, film: np.ndarray, rows: str, films: tuple[int, ...], expected: str
    ) -> None:
        report = self.imported(tmp_path, rows, film, films=films)
        (line,) = report.skipped
        assert expected in line
        assert report.num_images == 1

    def test_film_of_another_size_gives_no_region(self, tmp_path: Path, film: np.ndarray) -> None:
        report = self.imported(tmp_path, "mdb001 G CALC B 300 500 5\n", film[:1000], films=(1,))
        assert report.num_regions == 0
        assert "1024 x 1024 pixels. Received: 1000 x 1024" in report.skipped[0]

    def test_unreadable_calcified_film_is_listed(self, tmp_path: Path, film: np.ndarray) -> None:
        source = tmp_path / "source"
        source.mkdir()
        database(source, "mdb001 G CALC B 300 500 5\n", film, films=(1,))
        (source / "pgm" / "mdb001.pgm").write_bytes(b"")
        report = import_mini_mias(source, tmp_path / "out")
        assert report.skipped == [f"{source / 'pgm' / 'mdb001.pgm'}: is empty (0 bytes)"]

    def test_films_may_lie_beside_info_txt(self, tmp_path: Path, film: np.ndarray) -> None:
        (tmp_path / "source").mkdir()
        (tmp_path / "source" / "Info.txt").write_text("mdb001 G NORM\n")
        Image.fromarray(film).save(tmp_path / "source" / "mdb001.pgm")
        assert import_mini_mias(tmp_path / "source", tmp_path / "out").num_images == 1

    def test_capitals_and_a_folder_all_mias_are_taken(self, tmp_path: Path, film: np.ndarray) -> None:
        folder = tmp_path / "source" / "all-mias"
        folder.mkdir(parents=True)
        (folder / "INFO.TXT").write_text("mdb001 G CALC M 300 500 17\n")
        Image.fromarray(film).save(folder / "MDB001.PGM", format="PPM")
        report = import_mini_mias(tmp_path / "source", tmp_path / "out")
        assert (report.num_images, report.num_regions, report.skipped) == (1, 1, [])

    def test_tables_are_not_overwritten_unasked(self, tmp_path: Path, film: np.ndarray) -> None:
        self.imported(tmp_path, "mdb001 G NORM\n", film, films=(1,))
        with pytest.raises(InputError, match=r"images\.csv: already exists; name another place or give --overwrite"):
            import_mini_mias(tmp_path / "source", tmp_path / "out")
        assert import_mini_mias(tmp_path / "source", tmp_path / "out", overwrite=True).num_images == 1


class TestRefused:
    def test_folder_without_info_txt(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"must hold one file Info\.txt\. Received: none"):
            import_mini_mias(tmp_path, tmp_path.with_name("out"))

    def test_info_txt_without_rows(self, tmp_path: Path) -> None:
        (tmp_path / "Info.txt").write_text(PROSE)
        with pytest.raises(InputError, match=r"Info\.txt: must hold rows such as"):
            import_mini_mias(tmp_path, tmp_path.with_name("out"))

    def test_folder_without_films(self, tmp_path: Path) -> None:
        (tmp_path / "Info.txt").write_text("mdb001 G NORM\n")
        with pytest.raises(InputError, match=r"must hold images such as mdb001\.pgm"):
            import_mini_mias(tmp_path, tmp_path.with_name("out"))
        assert not tmp_path.with_name("out").exists()


LOCATED = (209, 211, 212, 213, 214, 218, 219, 222, 223, 226, 227, 231, 236, 238, 239, 240, 241, 248, 249, 252, 253, 256)


@pytest.fixture(scope="module")
def real_films(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real Info.txt and the films with located calcification; the other films are empty files, never read."""
    folder = tmp_path_factory.mktemp("mini-mias")
    (folder / "pgm").mkdir()
    for number in range(1, 323):
        (folder / "pgm" / f"mdb{number:03d}.pgm").touch()
    wanted = {"Info.txt", *(f"pgm/mdb{number:03d}.pgm" for number in LOCATED)}
    with tarfile.open(shared_data / "mini-mias.tar.xz", mode="r|xz") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name in wanted else None
            if file is not None:
                (folder / member.name).write_bytes(file.read())
                wanted.discard(member.name)
            if not wanted:
                break
    return folder


@pytest.fixture(scope="module")
def real_data(real_films: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ImportReport]:
    """The data folder of the real films, and what its import reported."""
    folder = tmp_path_factory.mktemp("data")
    return folder, import_mini_mias(real_films, folder)


class TestRealFilms:
    def test_20_images_and_25_regions_are_usable(self, real_data: tuple[Path, ImportReport]) -> None:
        folder, report = real_data
        assert (report.num_images, report.num_regions, report.skipped) == (322, 25, [])
        records = read_images(folder / "images.csv")
        regions = read_regions(folder / "regions.csv")
        partial = {record.image_id for record in records if record.annotation == "partial"}
        assert len(partial) == 20
        assert partial == {region.image_id for region in regions}
        assert len({record.patient_id for record in records}) == 161
        assert sum(record.is_called_normal for record in records) == 207

    def test_calcified_films_without_a_usable_place_are_noted(self, real_data: tuple[Path, ImportReport]) -> None:
        _, report = real_data
        noted = [note[:6] for note in report.notes if note.startswith("mdb")]
        assert noted == ["mdb216", "mdb233", "mdb245", "mdb212", "mdb214"]

    def test_known_place_is_turned_into_row_and_column(self, real_data: tuple[Path, ImportReport]) -> None:
        folder, _ = real_data
        first = read_regions(folder / "regions.csv")[0]
        assert first == Region("mdb209", "c1", "cluster", "circle", ((521.0, 647.0), (87.0, 87.0)))

    @pytest.mark.parametrize("number", LOCATED)
    def test_pixels_put_the_chest_wall_where_the_importer_does(self, real_films: Path, number: int) -> None:
        pixels = read_pixels(real_films / "pgm" / f"mdb{number:03d}.pgm")
        assert estimate_chest_wall(find_breast(pixels)) == ("right" if number % 2 else "left")
