import re
from dataclasses import replace

import pytest

from mmgkeras.config import AugmentationConfig, Config
from mmgkeras.report.checklist_facts import study_facts
from mmgkeras.report.checklist_item import Checklist
from mmgkeras.report.checklists import CHECKLISTS, checklists_section
from mmgkeras.report.claim import CLAIM
from mmgkeras.report.stard_ai import STARD_AI
from mmgkeras.report.table import Section, Table
from mmgkeras.report.tripod_ai import TRIPOD_AI
from mmgkeras.study.read import Study

SECTIONS = (
    Section(
        anchor="data",
        title="Data & more",
        body=(
            '<h3 id="data-inclusion">Inclusion</h3>',
            Table(name="subsets", title="Subsets", columns=("Subset",), rows=()),
        ),
    ),
)


@pytest.mark.parametrize(
    ("checklist", "num_items", "num_parts"), [(CLAIM, 44, 44), (TRIPOD_AI, 27, 52), (STARD_AI, 40, 48)]
)
def test_a_checklist_has_its_items_in_order(checklist: Checklist, num_items: int, num_parts: int) -> None:
    numbers = [item.number for item in checklist.items]
    assert len(numbers) == len(set(numbers)) == num_parts
    whole = [int(number.rstrip("abcdefg")) for number in numbers]
    assert sorted(set(whole)) == list(range(1, num_items + 1))
    assert whole == sorted(whole)


@pytest.mark.parametrize("checklist", CHECKLISTS)
def test_every_item_is_answered_or_left_to_the_group(checklist: Checklist) -> None:
    assert all(item.facts or item.wanted for item in checklist.items)


def test_every_fact_that_an_item_names_is_told_with_and_without_a_store(section_study: Study) -> None:
    named = {name for checklist in CHECKLISTS for item in checklist.items for name in item.facts}
    assert named <= study_facts(section_study).keys()
    assert named <= study_facts(replace(section_study, store=None)).keys()


def test_without_a_store_nothing_is_said_to_be_shown_of_it(section_study: Study) -> None:
    facts = study_facts(replace(section_study, store=None))
    for name in ("flow", "demographics", "subsets", "severity", "subgroups", "failures", "reference"):
        assert facts[name].text == "The patch store was not there when the report was made."


def test_intervals_are_not_all_said_to_be_within_folds(section_study: Study) -> None:
    assert "over all folds for subgroups" in study_facts(section_study)["uncertainty"].text


def test_negatives_that_are_left_out_of_training_are_told(section_study: Study) -> None:
    settings = AugmentationConfig(negatives_per_positive=3, min_negative_tissue=0.5)
    network = replace(section_study.networks[0], config=Config(augmentation=settings))
    text = study_facts(replace(section_study, networks=(network,)))["imbalance"].text
    assert "at most 3 negatives an epoch for each positive, no negatives with breast on less than 50%" in text


def test_facts_are_those_of_the_study(section_study: Study) -> None:
    facts = study_facts(section_study)
    assert facts["patches"].text.startswith("24 patches with and 47 without calcification, of 12 mammograms of 6")
    assert facts["left_out"].text == "1 image left out, each with its reason."
    assert "rate 0.001 times 0.3 every epoch" in facts["training"].text
    assert "tensorflow 2.21.0" in facts["software"].text
    assert "devices not in the data" in facts["acquisition"].text


def test_what_was_not_done_is_not_claimed(section_study: Study) -> None:
    facts = study_facts(section_study)
    assert facts["robustness"].text == "Not tested."
    assert facts["explanation"].text == "None was made."
    assert facts["external"].text == "No model was scored on another store."
    assert facts["differences"].text == "One network, so none are compared."
    assert study_facts(section_study, places=("external",))["external"].anchors == ("external",)


def test_answers_link_to_what_is_on_the_page_and_to_nothing_else(section_study: Study) -> None:
    text = "".join(str(part) for part in checklists_section(section_study, sections=SECTIONS).body)
    assert set(re.findall(r'href="#([^"]+)"', text)) == {"data", "data-inclusion", "subsets"}
    assert ">Data &amp; more</a>" in text
    assert ">Inclusion</a>" in text


def test_what_only_the_group_knows_is_blank_and_the_official_checklist_is_asked_for(section_study: Study) -> None:
    text = "".join(str(part) for part in checklists_section(section_study, sections=()).body)
    assert 'class="blank">to be filled in: funding' in text
    assert "the official checklists must be used" in text
    assert text.count("<table>") == 3
