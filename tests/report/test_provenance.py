import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mmgkeras.config import Config, ModelConfig, PatchesConfig, SplitConfig
from mmgkeras.report.content import Folded, Section, Table
from mmgkeras.report.provenance import provenance_section
from mmgkeras.study.layout import StoreFacts
from mmgkeras.study.read import Study

CHANGES = {
    "command": "mmgkeras crossval --store /home/ada/store --out=/home/ada/out --set model.weights=/home/ada/w.h5",
    "store": StoreFacts(path=Path("/home/ada/store"), checksum="abcd" * 16, folds_sha256="0" * 64),
    "data": Path("/home/ada/my data"),
}


@pytest.fixture
def study(section_study: Study) -> Study:
    config = Config(
        patches=PatchesConfig(patch_px=128, stride_px=64),
        split=SplitConfig(num_subsets=9),
        model=ModelConfig(weights="/home/ada/w.h5"),
    )
    crossval = section_study.crossval.model_copy(update=CHANGES)
    return replace(section_study, crossval=crossval, networks=(replace(section_study.networks[0], config=config),))


def facts(section: Section, name: str) -> dict[object, object]:
    table = next(block for block in section.body if isinstance(block, Table) and block.name == name)
    return {row[0]: row[1] for row in table.rows}


def test_what_the_store_was_made_with_is_told_by_the_store(study: Study) -> None:
    found = facts(provenance_section(study), "provenance_store")
    assert found["patch size (px)"] == found["stride (px)"] == "8"
    assert found["subsets of patients"] == "2"
    assert found["labels read from"] == "regions.csv"


def test_what_became_of_the_images_is_told(study: Study, resampled_to_2: Callable[..., Study]) -> None:
    assert facts(provenance_section(study), "provenance_store")["images"] == "never resampled"
    resampled = provenance_section(resampled_to_2(0.1, 0.1))
    assert facts(resampled, "provenance_store")["images"] == "resampled by area to 0.2 mm a pixel"


def test_keys_that_a_cross_validation_does_not_use_are_not_shown(study: Study) -> None:
    section = provenance_section(study)
    (configuration,) = (block for block in section.body if isinstance(block, Folded))
    assert json.loads(configuration.text).keys() == {"augmentation", "model", "train"}
    assert list(facts(section, "configuration")) == ["model.weights"]


def test_a_store_that_is_gone_is_told_by_what_was_written_down_of_it(study: Study) -> None:
    found = facts(provenance_section(replace(study, store=None)), "provenance_store")
    assert found["checksum"] == "abcd" * 16
    assert "patch size (px)" not in found


def test_folders_of_the_machine_are_left_out(study: Study) -> None:
    section = provenance_section(study)
    assert facts(section, "provenance_facts")["command"] == (
        "mmgkeras crossval --store store --out=out --set model.weights=w.h5"
    )
    assert "ada" not in str(section.body)
