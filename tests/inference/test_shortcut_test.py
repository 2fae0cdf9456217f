from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmgkeras.errors import InputError
from mmgkeras.inference.shortcut_test import CHANGES, shortcut_scores
from mmgkeras.patches.store import PatchStore
from mmgkeras.savedmodel.classifier import Classifier, load
from mmgkeras.study.run_files import SHORTCUT

ExportModel = Callable[..., Path]
ALL = np.arange(16, dtype=np.int64)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory, export_mean_model: ExportModel) -> Classifier:
    return load(export_mean_model(tmp_path_factory.mktemp("models") / "1"))


def probability(gray: float) -> float:
    return 1 / (1 + np.exp(1 - 2 * gray / 255))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_changes_by_hand(dtype: type[np.uint8] | type[np.uint16]) -> None:
    patches = np.array([[1, 2], [3, 7]], dtype).reshape(1, 2, 2, 1)
    expected = {
        "as_is": [[1, 2], [3, 7]],
        "x0.5": [[0, 1], [2, 4]],  # halves to the even number
        "x0.75": [[1, 2], [2, 5]],
        "rot90": [[2, 7], [1, 3]],
        "rot180": [[7, 3], [2, 1]],
        "rot270": [[3, 1], [7, 2]],
        "flipped": [[2, 1], [7, 3]],
    }
    for name, change in CHANGES.items():
        changed = change(patches)
        assert changed.dtype == dtype
        assert changed.shape == (1, 2, 2, 1)
        assert changed[0, ..., 0].tolist() == expected[name], name
    assert list(CHANGES) == list(expected)


def test_negatives_are_scored_as_they_are_and_changed(quadrant_store: Path, classifier: Classifier) -> None:
    store = PatchStore.open(quadrant_store)
    frame = shortcut_scores(classifier, store, ALL)
    assert list(frame.columns) == list(SHORTCUT)
    assert set(frame["label"]) == {0}
    wanted = store.patches[(store.patches["label"] == 0) & (store.patches["tissue"] >= 0.5)]
    assert len(wanted) > 3
    for name, group in frame.groupby("change"):
        np.testing.assert_array_equal(group[["image_id", "row", "col"]], wanted[["image_id", "row", "col"]])
        grays = store.gather(wanted.index.to_numpy())[:, 0, 0, 0]
        factor = float(str(name)[1:]) if str(name).startswith("x") else 1
        expected = [probability(np.rint(float(gray) * factor)) for gray in grays]
        np.testing.assert_allclose(group["probability"], expected, atol=1e-6)


def test_more_patches_than_the_limit_are_drawn_by_the_seed(quadrant_store: Path, classifier: Classifier) -> None:
    store = PatchStore.open(quadrant_store)

    def drawn(seed: int) -> list[list[object]]:
        frame = shortcut_scores(classifier, store, ALL, max_patches=3, seed=seed)
        assert len(frame) == 3 * len(CHANGES)
        return frame[["image_id", "row", "col"]].values.tolist()

    assert drawn(0) == drawn(0)
    assert len({str(drawn(seed)) for seed in range(5)}) > 1


def test_without_such_patches_the_frame_is_empty(quadrant_store: Path, classifier: Classifier) -> None:
    store = PatchStore.open(quadrant_store)
    positives = np.flatnonzero(store.patches["label"] == 1)
    frame = shortcut_scores(classifier, store, positives)
    assert list(frame.columns) == list(SHORTCUT)
    assert frame.empty


def test_a_store_of_other_patches_is_refused(
    quadrant_store: Path, tmp_path: Path, export_mean_model: ExportModel
) -> None:
    other = load(export_mean_model(tmp_path / "1", changes={"patch_px": 16, "stride_px": 16}))
    with pytest.raises(InputError, match=r"has patches of 8 px, and .* takes 16 px"):
        shortcut_scores(other, PatchStore.open(quadrant_store), ALL)
