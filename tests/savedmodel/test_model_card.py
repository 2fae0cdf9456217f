import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmgkeras.errors import InputError
from mmgkeras.evaluation.operating_point import OperatingPoint
from mmgkeras.evaluation.summary import Summary, summarise
from mmgkeras.savedmodel.metadata import ModelMetadata, Stopped
from mmgkeras.savedmodel.model_card import BLANK, model_card, note_operating_point, write_model_card
from mmgkeras.study.run_files import Origin

METADATA = ModelMetadata(
    network="resnet18",
    patch_px=224,
    stride_px=224,
    pixel_type="uint16",
    spacing_mm=0.07,
    fold=2,
    test_subset="B",
    test_patients_sha256="0" * 64,
    store_checksum="abcd" * 16,
    config={"model": {"network": "resnet18", "weights": "imagenet"}, "train": {"epochs": 10, "momentum": 0.9}},
)


def summary(**columns: list[float]) -> Summary:
    """Of four patches of one image: labels 1, 0, 0, -1, called yes, no, yes, yes."""
    frame = pd.DataFrame(
        {
            "image_id": "secret image",
            "patient_id": "secret patient",
            "fold": 2,
            "row": range(4),
            "col": 0,
            "label": np.array([1, 0, 0, -1], np.int8),
            "probability": [0.9, 0.1, 0.6, 0.7],
            "tissue": [1.0, 1.0, 0.1, 1.0],
            **columns,
        }
    )
    return summarise(frame)


def test_a_model_that_was_not_evaluated_says_so() -> None:
    card = model_card(METADATA)
    assert card.startswith("# resnet18, fold 2\n")
    assert "| AUC |" not in card
    assert "diagnosis" in card
    assert "(N, 224, 224, 1) uint16" in card
    assert "0.07 mm at the median" in card
    assert "subset B" in card
    assert "- model.weights: imagenet" in card
    assert "momentum" not in card
    assert BLANK in card


def test_a_model_of_groups_says_so() -> None:
    config = {**METADATA.config, "patches": {"min_marks": 3}}
    card = model_card(METADATA.model_copy(update={"config": config}))
    assert "- a patch with some individual calcifications but fewer than 3 was left out" in card
    assert "individual calcifications" not in model_card(METADATA)


def test_patients_held_out_are_not_told_to_be_trained_on() -> None:
    config = {"train": {"validation_patients": 0.25}}
    card = model_card(METADATA.model_copy(update={"config": config}))
    assert "held out and not trained on (train.validation_patients: 0.25)" in card
    assert "held out" not in model_card(METADATA)


def test_a_model_that_started_from_one_of_other_patients_says_what_is_not_known_of_them() -> None:
    digests = {"store_checksum": "1" * 64, "variables_sha256": "2" * 64}
    origins = [Origin(fold=1, test_patients_sha256=of * 64, **digests) for of in ("0", "3")]
    before = [
        "- before that, fold 1 of the patch store with checksum " + "1" * 64 + ", by the model that it started from",
        "; whether that model knew patients of subset B was told by store and division alone",
    ]
    card = model_card(METADATA.model_copy(update={"started_from": tuple(origins)}))
    assert "\n".join([before[0], before[0] + before[1], "- source of the images"]) in card


def test_the_metrics_of_the_test_subset_are_told_beside_always_no() -> None:
    card = model_card(METADATA, metrics=summary())
    assert "| AUC | 1.000 | 1.000 | 0.500 |" in card
    assert "| Specificity | 1.000 | 0.500 | 1.000 |" in card
    assert "| PPV | 1.000 | 0.500 | n/a |" in card
    assert "| mean accuracy of a mammogram | 1.000 | 0.667 | |" in card
    assert re.search(r"\b1 image of 1 patient .*\b1 patch .*\b2 without.*\b1 unknown", card, flags=re.DOTALL)
    assert "(mean, AUC" not in card
    assert "secret" not in card


def test_the_best_score_without_training_is_named() -> None:
    card = model_card(
        METADATA, metrics=summary(untrained_mean=[0.2, 0.1, 0.5, 0.0], untrained_top=[0.1, 0.1, 0.0, 0.0])
    )
    assert "(mean, AUC 1.000)" in card


def test_an_exported_model_has_a_card_which_an_evaluation_replaces(
    tmp_path: Path, export_mean_model: Callable[..., Path]
) -> None:
    model = export_mean_model(tmp_path / "1")
    path = model / "MODEL_CARD.md"
    assert "| AUC |" not in path.read_text()
    assert write_model_card(model, metrics=summary()) == path
    assert "| AUC | 1.000 |" in path.read_text()


def test_an_operating_point_is_the_last_section_and_replaces_another(
    tmp_path: Path, export_mean_model: Callable[..., Path]
) -> None:
    for threshold in (0.25, 0.125):
        point = OperatingPoint(threshold, "sensitivity", 0.9, "held-out patients")
        model = export_mean_model(tmp_path / str(threshold), changes={"operating_point": point})
        text = (model / "MODEL_CARD.md").read_text()
        assert text.count("## Operating point") == 1
        section = text.partition("## Operating point")[2]
        assert all(said in section for said in (str(threshold), "sensitivity", "0.9", "held-out patients"))
    write_model_card(model, metrics=summary())
    before = (model / "MODEL_CARD.md").read_text()
    note_operating_point(model)
    assert (model / "MODEL_CARD.md").read_text() == before
    (model / "MODEL_CARD.md").unlink()
    note_operating_point(model)
    assert "0.125" in (model / "MODEL_CARD.md").read_text().partition("## Operating point")[2]


def test_a_folder_that_is_no_model_gets_no_card(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no SavedModel"):
        write_model_card(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_was_stopped_and_a_store_that_was_resampled_are_told() -> None:
    stopped = Stopped(step=30, num_steps=100, epochs=10)
    card = model_card(METADATA.model_copy(update={"stopped": stopped, "config": {"patches": {"spacing_mm": 0.07}}}))
    assert "**stopped after epoch 3 of 10**" in card
    assert "resampled to it, by area where theirs is smaller" in card
    assert "stopped" not in model_card(METADATA)
    assert "not the average" not in card
    averaged = METADATA.model_copy(update={"config": {"train": {"ema_momentum": 0.999}}})
    assert "not the average" not in model_card(averaged)
    card = model_card(averaged.model_copy(update={"stopped": stopped}))
    assert "not the end of its training, and not the average that train.ema_momentum asks for\n" in card
