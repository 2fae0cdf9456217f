"""Files that were damaged, edited or forged with their checksums redone: taken, or refused in one line."""

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.campaign.files import KEPT, Target, faults_of_message, make_targets, mutate
from benchmarks.campaign.mutations import forge
from mmgkeras.errors import ConfigError, InputError, InputFaultsError, shown

NUMBER = 16
NAMES = (
    *(f"{name}{kind}" for name in ("store.json", "patches.csv", "images.csv") for kind in ("", ", forged")),
    *("patches-00000.npy", "patches-00000.npy, forged", "folds.csv", "folds.csv, forged", "crossval.json"),
    *("done.json", "predictions.csv"),
    *("timing.csv", "shortcut.csv", "pointing.csv", "environment.json", "history.csv", "mmgkeras.json"),
    *("mmgkeras.json, forged", "checkpoint.npz", "config.toml"),
    *("images.csv of data", "regions.csv", "labels.csv"),
)


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    folder, before = tmp_path_factory.mktemp("mutations"), Path.cwd()
    made = {target.name: target for target in make_targets(KEPT, folder)}
    os.chdir(folder)  # the kept cross-validation names its store by a relative path
    yield made
    os.chdir(before)


def test_every_kind_of_file_is_a_target(targets: dict[str, Target]) -> None:
    assert tuple(targets) == NAMES
    for target in targets.values():
        target.read()


@pytest.mark.parametrize("name", NAMES)
def test_a_mutation_is_taken_or_refused_in_one_line(targets: dict[str, Target], name: str) -> None:
    outcome = mutate(targets[name], seed=20, number=NUMBER)
    assert outcome.failures == ()
    assert outcome.taken + outcome.refused == NUMBER
    assert outcome.refused > 0
    targets[name].read()  # the file is as it was


def test_a_forged_store_is_checked_beyond_its_checksums(targets: dict[str, Target]) -> None:
    target = targets["patches.csv, forged"]
    data, manifest = target.path.read_bytes(), target.path.with_name("store.json").read_bytes()
    for before, after, rule in (
        (b",0,0,0,", b",7,0,0,", "row 1: row is wrong. Received: .*7"),
        (b",0,0,0,", b",0,0,3,", "row 1: label is wrong. Received: .*3"),
        (b",0,0,0,", b",0,0,1,", "holds other labels than store.json counts"),
        (b"P0001_L_CC,P0001,0,1", b"P0001_L_CC,P0002,0,1", "row 2: patient_id is wrong. Received: 'P0002'"),
    ):
        target.path.write_bytes(data.replace(before, after, 1))
        forge(target.path.parent)
        with pytest.raises(InputError, match=rf"patches.csv: {rule}.*; prepare the store again$"):
            target.read()
    target.path.write_bytes(data)
    target.path.with_name("store.json").write_bytes(manifest)


class TestShown:
    def test_a_huge_value_is_cut_and_control_characters_are_escaped(self) -> None:
        assert len(shown("x" * 10**7)) == 80
        assert shown("\x1b[2J\n") == r"'\x1b[2J\n'"
        assert shown(10**5000) == "a whole number of 16610 bits"
        nested: list[object] = []
        for _ in range(10**5):
            nested = [nested]
        assert shown(nested) == "[[[[...]]]]"

    def test_a_message_is_cut_and_escaped_whoever_wrote_it(self) -> None:
        message = str(InputError(f"a\x1b[2J: {'x' * 10**6}: must be short\nsecond line"))
        first, second = message.split("\n")
        assert first.startswith(r"a\x1b[2J: xxx")
        assert first.endswith("must be short")
        assert len(first) < 2100
        assert second == "second line"

    def test_faults_are_one_line_each_and_counted_beyond_a_thousand(self) -> None:
        error = InputFaultsError([f"fault {number}\nof two lines" for number in range(1500)])
        lines = str(error).split("\n")
        assert lines[0] == r"fault 0\nof two lines"
        assert lines[1000:] == ["and 500 more faults"]


ODD = {
    "dots": ("a" + ".a" * 50_000 + " = 1", "must have at most 65,536 bytes. Received: 100,"),
    "dotted table": ("[" + "a." * 1000 + "a]", "line 1 has over 200 dots; a key has one"),
    "nested lists": ("x = " + "[" * 900 + "]" * 900, "it nests too deep"),
    "nested tables": ("x = " + "{a=" * 900 + "1" + "}" * 900, "it nests too deep"),
    "digits": ("[train]\nepochs = " + "9" * 5000, "is not TOML: Exceeds the limit"),
    "many digits": ("[train]\nepochs = " + "9" * 4000, "epochs: .* Received: a whole number of"),
    "infinite": ("[train]\nlearning_rate = inf", "learning_rate: Input should be a finite number. Received: inf"),
    "nan": ("[train]\nl2 = nan", "l2: Input should be a finite number. Received: nan"),
    "huge": ("[train]\nlearning_rate = 1e300", "learning_rate: Input should be less than or equal to 1000"),
    "seed": ("[train]\nseed = 0xffffffffff", "seed: Input should be less than 4294967296"),
    "NUL": ('[model]\nweights = "a\\u0000"', "weights: must hold no control character"),
    "long name": (f'[model]\nweights = "{"x" * 300}"', "weights: must hold no name of over 255 bytes"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_toml_is_one_line(tmp_path: Path, name: str) -> None:
    from mmgkeras.config import read_config

    text, rule = ODD[name]
    path = tmp_path / "odd.toml"
    path.write_text(text)
    with warnings.catch_warnings(), pytest.raises(ConfigError, match=rule) as caught:
        read_config(path)
    assert faults_of_message(str(caught.value)) == []
    assert "\n" not in str(caught.value)
