"""Patients to subsets: even, repeatable, whole; and nothing on both sides of a fold."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mmgkeras.config import SplitConfig
from mmgkeras.errors import InputError, InputFaultsError
from mmgkeras.patches.assign import assign_subsets
from mmgkeras.patches.split import fold_patches, hold_out_patients, prove_no_leak, split_store
from mmgkeras.patches.store import PatchStore
from mmgkeras.patches.subset_counts import shared_patient_lines, subset_counts, subset_lines
from mmgkeras.schema import Region
from mmgkeras.tables import read_folds, write_folds

MakeStore = Callable[..., PatchStore]
QUANTITIES = ("patients", "images", "positives", "patches")
TABLE_4 = pd.DataFrame(
    {
        "patients": [16, 16, 17, 15, 17],
        "images": [43, 42, 41, 43, 43],
        "positives": [194, 131, 238, 196, 270],
        "patches": [3546, 3132, 2567, 3185, 2619],
    }
)


def paper_like_cohort(seed: int) -> pd.DataFrame:
    """81 patients with about 212 images and 1,029 positives among 15,049 patches; half the patients have none."""
    generator = np.random.default_rng(seed)
    images = np.clip(generator.poisson(212 / 81, 81), 1, 6)
    burden = generator.lognormal(0, 1.2, 81) * (generator.random(81) < 0.5)
    positives = np.round(1029 * burden / burden.sum()).astype(int)
    patches = np.round(images * generator.normal(71, 15, 81)).astype(int)
    return pd.DataFrame(
        {
            "patient_id": [f"{number:03d}" for number in range(81)],
            "images": images,
            "positives": positives,
            "negatives": np.maximum(0, patches - positives),
        }
    )


def totals(patients: pd.DataFrame, assignment: Mapping[str, str]) -> pd.DataFrame:
    """QUANTITIES of each subset, and its patients with positives."""
    counted = patients.assign(
        patients=1,
        patches=patients["positives"] + patients["negatives"],
        affected=patients["positives"] > 0,
    )
    subsets = patients["patient_id"].map(dict(assignment))
    return counted.groupby(subsets)[[*QUANTITIES, "affected"]].sum()


def spread(table: pd.DataFrame) -> pd.Series:
    """(greatest - least) / mean over the subsets, of each quantity: 0 where all are equal."""
    return (table.max() - table.min()) / table.mean()


class TestAssignSubsets:
    @pytest.mark.parametrize("seed", range(10))
    def test_cohorts_like_the_papers_are_at_least_as_even_as_table_4(self, seed: int) -> None:
        patients = paper_like_cohort(seed)
        assignment = assign_subsets(patients, SplitConfig(seed=seed))
        assert sorted(assignment) == patients["patient_id"].tolist()
        table = totals(patients, assignment)
        assert table.index.tolist() == list("ABCDE")
        assert (spread(table)[list(QUANTITIES)] <= spread(TABLE_4)).all()

    def test_same_seed_same_subsets_whatever_the_order_of_rows(self) -> None:
        patients = paper_like_cohort(3)
        first = assign_subsets(patients, SplitConfig(seed=1))
        assert assign_subsets(patients.iloc[::-1], SplitConfig(seed=1)) == first
        assert assign_subsets(patients, SplitConfig(seed=2)) != first

    def test_known_cohort_gives_known_subsets_on_every_machine(self) -> None:
        patients = pd.DataFrame(
            {
                "patient_id": list("abcdef"),
                "images": [2, 2, 2, 2, 2, 2],
                "positives": [9, 7, 5, 4, 2, 0],
                "negatives": [50, 50, 50, 50, 50, 50],
            }
        )
        assignment = assign_subsets(patients, SplitConfig(num_subsets=3))
        assert assignment == {"a": "A", "b": "B", "c": "C", "d": "C", "e": "B", "f": "A"}

    def test_a_larger_cohort_keeps_its_subsets_in_every_version(self) -> None:
        numbers = range(60)
        patients = pd.DataFrame(
            {
                "patient_id": [f"{number:02d}" for number in numbers],
                "images": [1 + number % 4 for number in numbers],
                "positives": [number * 37 % 101 * (number % 2) for number in numbers],
                "negatives": [100 + number * 53 % 90 for number in numbers],
            }
        )
        assignment = assign_subsets(patients, SplitConfig())
        letters = "".join(assignment[patient] for patient in patients["patient_id"])
        assert letters == "ABCDACBCEDACEDBDCBEEAABECADABBCACABCEEAEDEEAECDCCBAEDDDBBDDB"

    def test_few_positives_reach_every_subset(self) -> None:
        patients = pd.DataFrame(
            {
                "patient_id": [f"{number:02d}" for number in range(40)],
                "images": 2,
                "positives": [200, 1, 1, 1, 1] + [0] * 35,
                "negatives": 100,
            }
        )
        for seed in range(5):
            table = totals(patients, assign_subsets(patients, SplitConfig(seed=seed)))
            assert table["affected"].tolist() == [1, 1, 1, 1, 1]
            assert table["patients"].tolist() == [8, 8, 8, 8, 8]

    def test_patients_without_negatives_are_spread_too(self) -> None:
        patients = pd.DataFrame(
            {"patient_id": list("abcdef"), "images": 1, "positives": [5] * 6, "negatives": [0, 0, 0, 0, 9, 9]}
        )
        assignment = assign_subsets(patients, SplitConfig(num_subsets=2))
        assert assignment["e"] != assignment["f"]

    def test_as_many_patients_as_subsets_get_one_each(self) -> None:
        patients = paper_like_cohort(0).head(5)
        assert sorted(assign_subsets(patients, SplitConfig()).values()) == list("ABCDE")

    def test_fewer_patients_than_subsets_are_refused(self) -> None:
        with pytest.raises(InputError, match=r"each subset needs a patient\. Received: 5 subsets for 4 patients"):
            assign_subsets(paper_like_cohort(0).head(4), SplitConfig())

    def test_thousands_of_patients_are_divided_almost_exactly(self) -> None:
        generator = np.random.default_rng(0)
        patients = pd.DataFrame(
            {
                "patient_id": [f"{number:05d}" for number in range(3000)],
                "images": generator.integers(1, 6, 3000),
                "positives": generator.poisson(10, 3000) * generator.integers(0, 2, 3000),
                "negatives": generator.integers(50, 400, 3000),
            }
        )
        table = totals(patients, assign_subsets(patients, SplitConfig()))
        assert (spread(table) < 0.01).all()


@pytest.fixture
def store(make_store: MakeStore) -> PatchStore:
    """Ten patients a to j with one image of two patches each; a, c and e have a positive, b has one unknown."""
    images = {name: np.full((16, 8), number + 1, dtype=np.uint8) for number, name in enumerate("abcdefghij")}
    regions = [Region(name, "1", "calcification", "point", ((0, 0),)) for name in "ace"]
    return make_store(images, [*regions, Region("b", "1", "other", "point", ((0, 0),))])


def given_folds(folder: Path, **subsets: str) -> Path:
    path = folder / "given.csv"
    write_folds(path, {f"P{patient}": subset for patient, subset in subsets.items()}, overwrite=True)
    return path


class TestSplitStore:
    def test_folds_are_written_into_the_store(self, store: PatchStore) -> None:
        assignment = split_store(store, SplitConfig(num_subsets=3))
        assert read_folds(store.path / "folds.csv") == assignment
        table = subset_counts(store.patches, assignment)
        assert table["subset"].tolist() == ["A", "B", "C"]
        assert table["yes"].tolist() == [1, 1, 1]
        assert sorted(table["patients"].tolist()) == [3, 3, 4]
        PatchStore.open(store.path, verify=True)

    def test_folds_are_kept_unless_overwriting(self, store: PatchStore) -> None:
        split_store(store, SplitConfig(num_subsets=3))
        with pytest.raises(InputError, match=r"folds\.csv: already exists; give --overwrite"):
            split_store(store, SplitConfig(num_subsets=2))
        assert len(set(split_store(store, SplitConfig(num_subsets=2), overwrite=True).values())) == 2

    def test_patients_whose_ids_look_alike_are_refused_unless_they_are_said_to_differ(
        self, make_store: MakeStore
    ) -> None:
        images = {name: np.full((16, 8), number + 1, dtype=np.uint8) for number, name in enumerate("aAb")}
        store = make_store(images)
        with pytest.raises(InputFaultsError, match=r"store: patients 'Pa', 'PA' differ only in .*--allow-look-alikes"):
            split_store(store, SplitConfig(num_subsets=2))
        assert set(split_store(store, SplitConfig(num_subsets=2), allow_look_alikes=True)) == {"Pa", "PA", "Pb"}

    def test_too_few_patients_name_the_store(self, store: PatchStore) -> None:
        with pytest.raises(InputError, match=f"{store.path}: split.num_subsets: each subset needs a patient"):
            split_store(store, SplitConfig(num_subsets=11))

    def test_own_folds_are_taken_without_strangers(self, store: PatchStore, tmp_path: Path) -> None:
        folds = given_folds(tmp_path, **dict.fromkeys("abcde", "A"), **dict.fromkeys("fghij", "B"), stranger="C")
        assignment = split_store(store, SplitConfig(), folds=folds)
        assert assignment == {**{f"P{name}": "A" for name in "abcde"}, **{f"P{name}": "B" for name in "fghij"}}
        assert fold_patches(store, 2).test_subset == "B"

    def test_own_folds_must_cover_every_patient(self, store: PatchStore, tmp_path: Path) -> None:
        folds = given_folds(tmp_path, **dict.fromkeys("abcd", "A"), **dict.fromkeys("fghi", "B"))
        with pytest.raises(InputFaultsError) as caught:
            split_store(store, SplitConfig(), folds=folds)
        assert [fault.rpartition(" ")[2] for fault in caught.value.faults] == ["'Pe'", "'Pj'"]
        assert not (store.path / "folds.csv").exists()

    @pytest.mark.parametrize(("letters", "received"), [("AACCCAAAAA", "A, C"), ("AAAAAAAAAA", "A")])
    def test_own_folds_must_leave_no_letter_out(
        self, store: PatchStore, tmp_path: Path, letters: str, received: str
    ) -> None:
        folds = given_folds(tmp_path, **dict(zip("abcdefghij", letters, strict=True)))
        with pytest.raises(
            InputFaultsError, match=f"two or more letters from A on, none left out. Received: {received}"
        ):
            split_store(store, SplitConfig(), folds=folds)

    def test_own_folds_with_a_patient_twice_are_refused(self, store: PatchStore, tmp_path: Path) -> None:
        (tmp_path / "given.csv").write_text("patient_id,subset\nPa,A\nPa,B\n")
        with pytest.raises(InputFaultsError, match=r"given\.csv:3: a patient must be in one subset"):
            split_store(store, SplitConfig(), folds=tmp_path / "given.csv")


class TestIdenticalPixels:
    @pytest.fixture
    def twins(self, make_store: MakeStore) -> PatchStore:
        """Six patients; b and e have the same image, and e and f share another."""
        images = {name: np.full((8, 8), number + 1, dtype=np.uint8) for number, name in enumerate("abcdef")}
        images |= {"e2": images["b"], "f2": images["e"]}
        return make_store(images)

    def test_patients_who_share_pixels_stay_together(self, twins: PatchStore) -> None:
        for seed in range(5):
            assignment = split_store(twins, SplitConfig(num_subsets=3, seed=seed), overwrite=True)
            assert assignment["Pb"] == assignment["Pe"] == assignment["Pf"]
            assert len(set(assignment.values())) == 3
        assert shared_patient_lines(twins)[0].endswith("patient Pb (image b); patient Pe (image e2)")

    def test_own_folds_that_part_them_are_refused_with_both_names(self, twins: PatchStore, tmp_path: Path) -> None:
        folds = given_folds(tmp_path, a="A", b="A", c="A", d="B", e="B", f="B")
        with pytest.raises(InputFaultsError, match="images with identical pixels must be in one subset") as caught:
            split_store(twins, SplitConfig(), folds=folds)
        assert len(caught.value.faults) == 1
        assert caught.value.faults[0].endswith("Received: image b of patient Pb in A; image e2 of patient Pe in B")

    def test_folds_changed_behind_our_back_are_refused(self, twins: PatchStore) -> None:
        write_folds(twins.path / "folds.csv", {f"P{name}": "A" if name < "e" else "B" for name in "abcdef"})
        with pytest.raises(InputFaultsError, match="images with identical pixels must be in one subset"):
            fold_patches(twins, 1)


class TestFoldPatches:
    def test_a_fold_tests_its_subset_and_trains_on_known_patches_of_the_others(
        self, store: PatchStore, tmp_path: Path
    ) -> None:
        split_store(
            store, SplitConfig(), folds=given_folds(tmp_path, **dict(zip("abcdefghij", "ABBBBBBBAA", strict=True)))
        )
        fold = fold_patches(store, 1)
        assert fold.test_subset == "A"
        assert fold.test.tolist() == [0, 1, 16, 17, 18, 19]
        assert fold.train.tolist() == list(range(3, 16))
        other = fold_patches(store, 2)
        assert other.test.tolist() == list(range(2, 16))
        assert other.train.tolist() == [0, 1, 16, 17, 18, 19]
        assert asdict(fold.proof) == {
            "train_patients": 7,
            "test_patients": 3,
            "shared_patients": 0,
            "train_images": 7,
            "test_images": 3,
            "shared_pixel_digests": 0,
        }

    def test_a_fold_tests_its_row_of_table_4_and_trains_on_the_others(self, store: PatchStore) -> None:
        assignment = split_store(store, SplitConfig(num_subsets=3))
        labels = store.patches["label"].to_numpy()
        counts = subset_counts(store.patches, assignment)[["yes", "no"]].to_numpy()
        for number, own in enumerate(counts, start=1):
            fold = fold_patches(store, number)
            for rows, expected in ((fold.test, own), (fold.train, counts.sum(axis=0) - own)):
                assert [(labels[rows] == label).sum() for label in (1, 0)] == expected.tolist()

    def test_an_undivided_store_is_refused(self, store: PatchStore) -> None:
        with pytest.raises(InputError, match=r"folds\.csv: is missing; mmgkeras split makes it"):
            fold_patches(store, 1)

    @pytest.mark.parametrize("number", [0, 4])
    def test_folds_that_are_not_there_are_refused(self, store: PatchStore, number: int) -> None:
        split_store(store, SplitConfig(num_subsets=3))
        with pytest.raises(InputError, match=f"fold must be from 1 to 3. Received: {number}"):
            fold_patches(store, number)


class TestProveNoLeak:
    def test_a_patient_on_both_sides_is_named(self, store: PatchStore) -> None:
        with pytest.raises(InputFaultsError, match="patient Pa is on both sides of a fold"):
            prove_no_leak(store, train=np.array([0, 4]), test=np.array([1]))

    def test_identical_pixels_on_both_sides_are_named(self, make_store: MakeStore) -> None:
        store = make_store({name: np.full((8, 8), 9, dtype=np.uint8) for name in "ab"})
        with pytest.raises(InputFaultsError, match="images a and b have identical pixels and are on both sides"):
            prove_no_leak(store, train=np.array([0]), test=np.array([1]))


def test_the_printed_table_has_a_line_for_each_subset_and_one_for_all(store: PatchStore, tmp_path: Path) -> None:
    folds = given_folds(tmp_path, **dict.fromkeys("abcde", "A"), **dict.fromkeys("fghij", "B"))
    lines = subset_lines(store, split_store(store, SplitConfig(), folds=folds))
    assert [line.split() for line in lines] == [
        ["subset", "patients", "images", "yes", "no", "unknown"],
        ["A", "5", "5", "3", "6", "1"],
        ["B", "5", "5", "0", "10", "0"],
        ["all", "10", "10", "3", "16", "1"],
    ]
    assert all(len(line) <= 80 for line in lines)


def make_patches(*, with_calcification=4, without=6):
    """Three patches of each patient; of those with calcification the last is positive."""
    rows = [
        {"patient_id": f"{'yn'[kind]}{number}", "label": int(kind == 0 and patch == 2)}
        for kind, count in enumerate((with_calcification, without))
        for number in range(count)
        for patch in range(3)
    ]
    return pd.DataFrame(rows)


def store_of(patches, *, twins=()):
    """A store of these patches, of one image for each patient; the images of the twins have the same pixels."""
    patients = patches["patient_id"].drop_duplicates()
    digests = patients.where(~patients.isin(twins), "the same")
    images = pd.DataFrame({"image_id": patients, "patient_id": patients, "pixel_sha256": digests})
    return SimpleNamespace(patches=patches, images=images)


def patients_of(patches, places):
    return set(patches["patient_id"].iloc[places])


def test_whole_patients_of_both_kinds_are_held_out():
    patches = make_patches()
    train = np.arange(3, len(patches))  # one patient is not ours to use
    learned, held_out = hold_out_patients(store_of(patches), train, part=0.34, seed=0)
    assert sorted([*learned, *held_out]) == train.tolist()
    watched = patients_of(patches, held_out)
    assert not watched & patients_of(patches, learned)
    assert sorted(patient[0] for patient in watched) == ["n", "n", "y"]
    assert patches["label"].iloc[learned].any()


def test_patients_who_share_an_image_are_held_out_together():
    patches, twins = make_patches(), {"y1", "n3"}
    store, train = store_of(patches, twins=twins), np.arange(len(patches))
    watched = [patients_of(patches, hold_out_patients(store, train, part=0.5, seed=seed)[1]) for seed in range(20)]
    assert {len(twins & patients) for patients in watched} == {0, 2}


def test_the_draw_depends_on_the_seed_alone():
    patches = make_patches()
    train = np.arange(len(patches))
    draws = [hold_out_patients(store_of(patches), train, part=0.3, seed=seed)[1].tolist() for seed in (0, 0, 1, 2, 3)]
    assert draws[0] == draws[1]
    assert len({tuple(draw) for draw in draws}) > 1


def test_nobody_is_held_out_by_default():
    train = np.arange(6)
    learned, held_out = hold_out_patients(store_of(make_patches()), train, part=0, seed=0)
    assert (learned.tolist(), held_out.tolist()) == (train.tolist(), [])


@pytest.mark.parametrize("part", [0.01, 0.99])
def test_each_side_keeps_a_patient_with_calcification(part):
    patches = make_patches(with_calcification=2, without=3)
    learned, held_out = hold_out_patients(store_of(patches), np.arange(len(patches)), part=part, seed=0)
    assert patches["label"].iloc[learned].sum() == patches["label"].iloc[held_out].sum() == 1


def test_one_patient_with_calcification_cannot_be_on_both_sides():
    patches = make_patches(with_calcification=1)
    with pytest.raises(InputError, match=r"train.validation_patients: needs at least two .* Received: 1"):
        hold_out_patients(store_of(patches), np.arange(len(patches)), part=0.5, seed=0)
