"""Paths in JSON files: relative, so that a folder can be moved and nobody's home is named."""

import json
import os
from pathlib import Path

import pytest

from mmgkeras.config import Config, ModelConfig, read_config, write_config
from mmgkeras.errors import InputError
from mmgkeras.json_files import (
    FilePath,
    JsonModel,
    Text,
    command_without_folders,
    expanded,
    home_path,
    read_json,
    read_path,
    without_folders,
    write_json,
    written_path,
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder, which there is now."""
    folder = tmp_path / "home" / "ada"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.mark.parametrize(
    ("path", "folder", "written"),
    [
        ("data", "store", "../data"),
        ("home/ada/data", "home/ada/work/store", "../../data"),
        ("home/ada/data", "srv/store", "~/data"),
        ("srv/data", "home/ada/store", "../../../srv/data"),
        ("run/model/1", "run", "../run/model/1"),
    ],
)
def test_a_path_is_written_so_that_it_names_no_home_and_is_found_again(
    tmp_path: Path, home: Path, path: str, folder: str, written: str
) -> None:
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    found = written_path(tmp_path / path, tmp_path / folder)
    assert found.as_posix() == written
    assert "ada" not in found.parts
    assert read_path(found, tmp_path / folder) == tmp_path / path


def test_a_relative_path_is_one_from_the_present_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work" / "out").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    assert written_path(Path("data"), Path("out")).as_posix() == "../data"
    assert read_path(Path("../data"), Path("out")) == tmp_path / "work" / "data"


def test_a_link_is_followed_as_the_system_does(tmp_path: Path) -> None:
    (tmp_path / "large" / "disk").mkdir(parents=True)
    (tmp_path / "store").symlink_to(tmp_path / "large" / "disk")
    found = written_path(tmp_path / "data", tmp_path / "store")
    assert found.as_posix() == "../../data"
    assert read_path(found, tmp_path / "store") == tmp_path / "data"


class Named(JsonModel):
    """What names a file."""

    path: FilePath
    note: Text


def test_a_name_that_is_no_utf8_is_written_and_found_again(tmp_path: Path) -> None:
    name = os.fsdecode(b"M\xfcller")
    write_json(tmp_path / "a.json", Named(path=Path(name, "\U0001f600"), note=f"of {name}"))
    assert json.loads((tmp_path / "a.json").read_bytes()) == {
        "path": "M\\udcfcller/\U0001f600",
        "note": "of M\\udcfcller",
    }
    assert read_json(tmp_path / "a.json", Named) == Named(path=Path(name, "\U0001f600"), note="of M\\udcfcller")


@pytest.mark.parametrize("weights", [os.fsdecode(b"M\xfcller/1"), "M\u00fcller/1", "\U0001f600/1"])
def test_weights_of_any_name_come_back_from_a_configuration(tmp_path: Path, weights: str) -> None:
    config = Config(model=ModelConfig(weights=weights))
    write_config(config, tmp_path / "config.toml")
    assert read_config(tmp_path / "config.toml") == config


@pytest.mark.parametrize("path", ["/home/ada/store", "k/data"])
def test_what_earlier_versions_wrote_stays_as_it_is(tmp_path: Path, path: str) -> None:
    assert read_path(Path(path), tmp_path) == Path(path)


def test_weights_below_the_home_folder_do_not_say_whose_it_is(home: Path) -> None:
    weights = ModelConfig(network="ResNet50", weights=str(home / "w.h5")).weights
    assert weights == "~/w.h5"
    assert expanded(Path(weights)) == home / "w.h5"
    for other in ("imagenet", "", "./w.h5", "/srv/w.h5"):
        assert ModelConfig(network="ResNet50", weights=other).weights == other


def test_without_a_home_folder_paths_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/"))
    assert home_path(Path("/srv/w.h5")) == Path("/srv/w.h5")
    assert expanded(Path("~/w.h5")) == Path("~/w.h5")


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("--store /home/ada/store --out=/home/ada/out", "--store store --out=out"),
        ("--data '/home/ada/my data'", "--data 'my data'"),
        ("--data '/home/ada/data", "--data ''\"'\"'data'"),  # a quotation mark that is not closed
        ("--data ../data", "--data ../data"),
    ],
)
def test_a_command_is_shown_without_folders(command: str, shown: str) -> None:
    assert command_without_folders(command) == shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ada/store", "store"),
        ("--store=/home/ada/store --out out", "--store=store --out out"),
        ("cannot be read: /srv/x/a.png: damaged", "cannot be read: a.png: damaged"),
        (r"C:\Users\ada\a.png", "a.png"),
        ("data/a.png, 3/4 of 1 mm / px and/or ../store", "data/a.png, 3/4 of 1 mm / px and/or ../store"),
    ],
)
def test_folders_of_absolute_paths_are_left_out(text: str, expected: str) -> None:
    assert without_folders(text) == expected


def test_a_file_of_a_million_keys_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "store.json"
    path.write_text(json.dumps(dict.fromkeys(map(str, range(10**6)), 0)).replace('": ', '":'))
    with pytest.raises(InputError, match=r"store.json: must have at most 500,000 keys; prepare it again$"):
        read_json(path, JsonModel, hint="prepare it again")
