import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgkeras.config import PatchesConfig
from mmgkeras.errors import InputError
from mmgkeras.evaluation.baselines import BASELINE_SCORES, baseline_scores
from mmgkeras.inference.scoring import hardware, predict_store, twin_patches, unseen_patches
from mmgkeras.patches.prepare import prepare
from mmgkeras.patches.store import PatchStore
from mmgkeras.savedmodel.classifier import load
from mmgkeras.savedmodel.metadata import patients_digest
from mmgkeras.tables import PREDICTION_COLUMNS, read_predictions, write_folds, write_predictions

ExportModel = Callable[..., Path]


def probability(gray: float) -> float:
    return 1 / (1 + np.exp(1 - 2 * gray / 255))


@pytest.fixture
def own_model(tmp_path: Path, quadrant_store: Path, export_mean_model: ExportModel) -> Path:
    checksum = PatchStore.open(quadrant_store).checksum
    return export_mean_model(tmp_path / "model" / "1", changes={"store_checksum": checksum})


def test_a_model_is_measured_on_the_subset_that_its_training_left_out(quadrant_store: Path, own_model: Path) -> None:
    store = PatchStore.open(quadrant_store)
    unseen = unseen_patches(load(own_model), store)
    assert set(store.patches["image_id"].iloc[unseen]) == {"a", "b"}


def test_of_another_store_every_patch_is_unseen(
    quadrant_store: Path, tmp_path: Path, export_mean_model: ExportModel
) -> None:
    others = {"test_patients_sha256": patients_digest(["q1"])}
    classifier = load(export_mean_model(tmp_path / "1", changes=others))
    assert unseen_patches(classifier, PatchStore.open(quadrant_store)).tolist() == list(range(16))
    (quadrant_store / "folds.csv").unlink()
    assert unseen_patches(classifier, PatchStore.open(quadrant_store)).tolist() == list(range(16))


def test_a_store_that_was_split_anew_is_refused(quadrant_store: Path, own_model: Path) -> None:
    write_folds(quadrant_store / "folds.csv", {"p1": "A", "p3": "A", "p2": "B", "p4": "B"}, overwrite=True)
    with pytest.raises(
        InputError, match=r"was split anew since .* was trained: test subset A then held other patients"
    ):
        unseen_patches(load(own_model), PatchStore.open(quadrant_store))


def test_patches_of_another_size_or_type_are_refused_before_any_is_scored(
    quadrant_store: Path, quadrant_data: Path, tmp_path: Path, export_mean_model: ExportModel
) -> None:
    classifier = load(export_mean_model(tmp_path / "1", changes={"patch_px": 16, "stride_px": 16}))
    with pytest.raises(InputError, match=r"has patches of 8 px, and .* takes 16 px"):
        unseen_patches(classifier, PatchStore.open(quadrant_store))
    with pytest.raises(InputError, match=r"has patches of 8 px"):
        predict_store(classifier, PatchStore.open(quadrant_store), indices=np.arange(2), fold=1)


def test_pixels_of_sixteen_bits_are_refused_by_a_model_of_eight(
    quadrant_data: Path, tmp_path: Path, export_mean_model: ExportModel
) -> None:
    data = shutil.copytree(quadrant_data, tmp_path / "deep-data")
    for path in data.glob("*.png"):
        Image.fromarray(np.array(Image.open(path)).astype(np.uint16) * 257).save(path)
    store = prepare(data, tmp_path / "deep", PatchesConfig(patch_px=8))
    with pytest.raises(InputError, match=r"deep: has pixels of 16 bits, and .* takes 8"):
        unseen_patches(load(export_mean_model(tmp_path / "1")), store)


def test_predictions_hold_what_the_store_knows_and_the_model_says(quadrant_store: Path, own_model: Path) -> None:
    store = PatchStore.open(quadrant_store)
    indices = np.array([4, 5, 6, 7, 0, 1, 2])
    scored = predict_store(load(own_model), store, indices=indices, fold=1)
    frame = scored.predictions
    assert set(frame.columns) == {*PREDICTION_COLUMNS, *(f"untrained_{name}" for name in BASELINE_SCORES)}
    assert frame["image_id"].tolist() == ["b"] * 4 + ["a"] * 3
    assert frame["patient_id"].tolist() == ["p2"] * 4 + ["p1"] * 3
    assert frame["fold"].tolist() == [1] * 7
    assert frame[["row", "col"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [0, 0], [0, 1], [1, 0]]
    assert frame["label"].tolist() == [1, 0, 0, 0, 1, 0, 0]
    expected = [probability(gray) for gray in (110, 220, 60, 30, 200, 50, 100)]
    np.testing.assert_allclose(frame["probability"], expected, atol=1e-6)
    untrained = baseline_scores(store.gather(indices)[..., 0])
    for name, scores in untrained.items():
        np.testing.assert_array_equal(frame[f"untrained_{name}"], scores)
    assert scored.timing["image_id"].tolist() == ["b", "b", "a"]
    assert scored.timing["infer_s"].gt(0).all()


def test_an_answer_that_is_no_probability_names_the_image(
    quadrant_store: Path, own_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = load(own_model)
    answers = {"probability": np.array([0.5, np.nan, 0.5, 0.5], np.float32)}
    monkeypatch.setattr(classifier, "_call", lambda *_, **__: classifier._check_answers(answers))
    with pytest.raises(InputError, match=r"^image b: .*must give probabilities from 0 to 1. Received: nan for 1 of 4 "):
        predict_store(classifier, PatchStore.open(quadrant_store), indices=np.arange(4, 8), fold=1)


def test_no_patches_to_score_is_an_error(quadrant_store: Path, own_model: Path) -> None:
    with pytest.raises(InputError, match=r"has no patches to score in fold 3"):
        predict_store(load(own_model), PatchStore.open(quadrant_store), indices=np.array([], np.int64), fold=3)


def test_twins_are_found_by_their_place_and_not_by_their_number(quadrant_store: Path, quadrant_data: Path) -> None:
    store = PatchStore.open(quadrant_store)
    lines = (quadrant_data / "images.csv").read_text().splitlines()
    turned = quadrant_store.parent / "turned"
    turned.mkdir()
    for path in quadrant_data.glob("*.png"):
        (turned / path.name).write_bytes(path.read_bytes())
    (turned / "images.csv").write_text("\n".join([lines[0], *lines[:1:-1]]) + "\n")  # d, c, b: without a
    twins = prepare(turned, quadrant_store.parent / "twins", PatchesConfig(patch_px=8))
    assert twin_patches(store, twins, np.array([4, 9])).tolist() == [8, 5]
    with pytest.raises(InputError, match=r"twins: has no twin of the patch at row 0, col 1 of image a"):
        twin_patches(store, twins, np.array([4, 1]))


def test_hardware_names_a_processor() -> None:
    assert hardware().endswith("threads")


class TestOnlyKnown:
    """`predict_store(only_known=True)`: what is scored, what is left out and what is timed."""

    @pytest.fixture
    def store(self, quadrant_data: Path, tmp_path: Path) -> PatchStore:
        """The quadrants, of which c is partly annotated and d is black below; nobody looked at b."""
        data = shutil.copytree(quadrant_data, tmp_path / "data")
        pixels = np.array(Image.open(data / "d.png"))
        pixels[8:] = 0
        Image.fromarray(pixels).save(data / "d.png")
        text = (data / "images.csv").read_text()
        text = text.replace("b.png,p2,L,CC,complete", "b.png,p2,L,CC,none")
        (data / "images.csv").write_text(text.replace("c.png,p3,L,CC,complete", "c.png,p3,L,CC,partial"))
        lines = (data / "regions.csv").read_text().splitlines()
        (data / "regions.csv").write_text("\n".join(line for line in lines if not line.startswith("b,")) + "\n")
        return prepare(data, tmp_path / "store", PatchesConfig(patch_px=8))

    def test_unknown_patches_have_no_row_and_the_others_the_same(self, store: PatchStore, own_model: Path) -> None:
        rows = np.arange(16)
        classifier = load(own_model)
        whole = predict_store(classifier, store, indices=rows, fold=1).predictions
        known = predict_store(classifier, store, indices=rows, fold=1, only_known=True).predictions
        assert known["image_id"].tolist() == ["a"] * 4 + ["c"] + ["d"] * 4
        assert known.equals(whole[whole["label"] != -1].reset_index(drop=True))

    def test_after_the_timed_images_black_patches_are_asked_about_once(
        self, store: PatchStore, own_model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        classifier, asked = load(own_model), []
        original = classifier.classify
        monkeypatch.setattr(classifier, "classify", lambda patches: asked.append(len(patches)) or original(patches))
        monkeypatch.setattr("mmgkeras.inference.scoring.TIMED_IMAGES", 1)
        scored = predict_store(classifier, store, indices=np.arange(16), fold=1, only_known=True)
        assert asked == [4, 4, 1, 1, 2]  # a cold and warm; a black patch; the mark of c; the upper half of d
        assert scored.timing["image_id"].tolist() == ["a", "a"]
        expected = [probability(gray) for gray in (200, 50, 100, 20, 250, 40, 80, 0, 0)]
        np.testing.assert_allclose(scored.predictions["probability"], expected, atol=1e-6)

    def test_nothing_known_is_one_line(self, store: PatchStore, own_model: Path) -> None:
        with pytest.raises(InputError, match="the label of every patch to score is unknown"):
            predict_store(load(own_model), store, indices=np.arange(4, 8), fold=1, only_known=True)


def test_columns_of_the_users_own_go_along(quadrant_data: Path, tmp_path: Path, export_mean_model: ExportModel) -> None:
    data = tmp_path / "data"
    shutil.copytree(quadrant_data, data)
    header, *rows = (data / "images.csv").read_text().splitlines()
    texts = {"a": "=1+x", "b": "", "c": "007", "d": "x"}
    lines = [f"{header},site,height", *(f"{row},{texts[row[0]]},tall" for row in rows)]
    (data / "images.csv").write_text("\n".join(lines) + "\n")
    store = prepare(data, tmp_path / "store", PatchesConfig(patch_px=8))
    classifier = load(export_mean_model(tmp_path / "1"))
    predictions = predict_store(classifier, store, indices=np.arange(16), fold=1).predictions
    assert predictions.groupby("image_id")["site"].unique().map(list).to_dict() == {i: [t] for i, t in texts.items()}
    assert set(predictions["height"]) == {"tall"}
    write_predictions(tmp_path / "p.csv", predictions)
    assert read_predictions(tmp_path / "p.csv")["site"].tolist() == predictions["site"].tolist()
