"""`prepare` and `split` as commands: results on stdout, each fault one line on stderr, nothing left behind."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from mmgkeras.cli import main
from PIL import Image

from mmgkeras.config import SplitConfig
from mmgkeras.patches.split import split_store
from mmgkeras.patches.store import PatchStore

HEADER = "image_id,path,patient_id,laterality,view,annotation\n"
REGIONS = "image_id,region_id,kind,shape,points\n"


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six patients with one image of 16 x 8 pixels each, the first two with a mark."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [f"i{number},i{number}.png,00{number},R,MLO,complete\n" for number in range(6)]
    for number in range(6):
        Image.fromarray(np.full((16, 8), 10 + number, dtype=np.uint8)).save(folder / f"i{number}.png")
    (folder / "images.csv").write_text(HEADER + "".join(rows))
    (folder / "regions.csv").write_text(REGIONS + 'i0,1,calcification,point,"3,3"\ni1,1,calcification,point,"9,3"\n')
    return folder


@pytest.fixture
def store(data: Path, tmp_path: Path) -> Path:
    result = run("prepare", "--data", data, "--out", tmp_path / "store", "--set", "patches.patch_px=8")
    assert result.exit_code == 0
    return tmp_path / "store"


def test_prepare_prints_what_the_store_holds(data: Path, tmp_path: Path) -> None:
    result = run("prepare", "--data", data, "--out", tmp_path / "new", "--set", "patches.patch_px=8")
    assert result.exit_code == 0
    assert "images      6 of 6 patients\n" in result.stdout
    assert "patches     12 of 8 px: 2 positive, 10 negative, 0 unknown\n" in result.stdout
    assert "pixels      uint8, spacing unknown\n" in result.stdout
    assert result.stderr == "reading images: 6\n"


def test_split_prints_table_4_of_the_store(store: Path) -> None:
    result = run("split", "--store", store, "--num-subsets", "2")
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["subset", "patients", "images", "yes", "no", "unknown"],
        ["A", "3", "3", "1", "5", "0"],
        ["B", "3", "3", "1", "5", "0"],
        ["all", "6", "6", "2", "10", "0"],
    ]


def test_split_options_win_over_the_configuration(store: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[split]\nnum_subsets = 5\nseed = 3\n")
    result = run("split", "--store", store, "--config", tmp_path / "c.toml", "--num-subsets", "3")
    assert result.exit_code == 0
    before = (store / "folds.csv").read_text()
    split_store(PatchStore.open(store), SplitConfig(num_subsets=3, seed=3), overwrite=True)
    assert (store / "folds.csv").read_text() == before


def test_own_folds_exclude_the_options_of_the_search(store: Path, tmp_path: Path) -> None:
    result = run("split", "--store", store, "--folds", tmp_path / "f.csv", "--seed", "1")
    assert result.exit_code == 2
    assert all(option in result.stderr for option in ("--folds", "--num-subsets", "--seed"))


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("images.csv", HEADER.replace("view,", ""), "images.csv:1: column view is missing"),
        ("images.csv", HEADER + "i0,i0.png,000,right,MLO,complete\n", "images.csv:2: laterality must be one of L, R"),
        (
            "images.csv",
            HEADER + "i0,i0.png,0,R,CC,none\ni0,i1.png,0,R,CC,none\n",
            "images.csv:3: image_id must be uniq",
        ),
        (
            "regions.csv",
            REGIONS + 'i0,1,cluster,box,"16,0 17,3"\n',
            "regions.csv:2: image i0, region 1: the",
        ),
        (
            "regions.csv",
            REGIONS + 'i9,1,cluster,box,"0,0 9,3"\n',
            "regions.csv:2: an annotation must belong to an image",
        ),
        ("i3.png", "", "i3.png: is empty (0 bytes)"),
    ],
)
def test_faulty_data_is_one_line_and_leaves_nothing(
    data: Path, tmp_path: Path, name: str, text: str, fault: str
) -> None:
    if name == "images.csv":
        (data / "regions.csv").unlink()
    (data / name).write_text(text)
    result = run("prepare", "--data", data, "--out", tmp_path / "new")
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if not line.startswith("reading images")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {data}/{fault}")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_misspelt_key_names_its_nearest(data: Path, tmp_path: Path) -> None:
    result = run("prepare", "--data", data, "--out", tmp_path / "new", "--set", "patches.patch_pix=8")
    assert result.exit_code == 1
    assert result.stderr == "error: configuration: patches.patch_pix: no such key; did you mean patch_px?\n"


def test_a_patient_in_two_subsets_is_one_line(store: Path, tmp_path: Path) -> None:
    rows = "".join(f"00{number},{'AB'[number % 2]}\n" for number in range(6))
    (tmp_path / "f.csv").write_text("patient_id,subset\n" + rows + "000,B\n")
    result = run("split", "--store", store, "--folds", tmp_path / "f.csv")
    assert result.exit_code == 1
    expected = f"error: {tmp_path / 'f.csv'}:8: a patient must be in one subset. Received: '000' in A and B\n"
    assert result.stderr == expected
    assert not (store / "folds.csv").exists()


def test_fewer_patients_than_subsets_is_one_line(store: Path) -> None:
    result = run("split", "--store", store, "--num-subsets", "7")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "Received: 7 subsets for 6 patients" in result.stderr
