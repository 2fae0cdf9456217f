from collections.abc import Callable
from dataclasses import replace

import pytest

from mmgkeras.config import AugmentationConfig, Config
from mmgkeras.report.checklists import CHECKLISTS, checklists_section, read_items, study_answers
from mmgkeras.report.content import Answer, Checklist, Heading, Section, Table, Text
from mmgkeras.study.read import Study

SECTIONS = (
    Section(
        anchor="data",
        title="Data & more",
        body=(
            Heading("Inclusion", "data-inclusion"),
            Table(name="subsets", title="Subsets", columns=("Subset",), rows=()),
        ),
    ),
)


TITLES = {"data": "Data & more", "data-inclusion": "Inclusion", "subsets": "Subsets"}


def items(name: str) -> list[dict[str, object]]:
    return [item for part in read_items(name)["parts"] for item in part["items"]]


@pytest.mark.parametrize(
    ("name", "num_items", "num_parts"), [("claim", 44, 44), ("tripod_ai", 27, 52), ("stard_ai", 40, 48)]
)
def test_a_checklist_has_its_items_in_order(name: str, num_items: int, num_parts: int) -> None:
    numbers = [str(item["number"]) for item in items(name)]
    assert len(numbers) == len(set(numbers)) == num_parts
    whole = [int(number.rstrip("abcdefg")) for number in numbers]
    assert sorted(set(whole)) == list(range(1, num_items + 1))
    assert whole == sorted(whole)


@pytest.mark.parametrize("name", CHECKLISTS)
def test_every_item_is_answered_or_left_to_the_group_and_has_no_other_key(name: str) -> None:
    for item in items(name):
        assert {"number", "asks"} < item.keys() <= {"number", "asks", "answers", "wanted"}


@pytest.mark.parametrize("name", CHECKLISTS)
def test_every_checklist_says_that_it_was_not_held_against_the_journals_own(name: str) -> None:
    assert "not held against the journal's own" in read_items(name)["source"]


def test_every_answer_is_named_by_an_item_and_every_name_has_an_answer(section_study: Study) -> None:
    named = {answer for name in CHECKLISTS for item in items(name) for answer in item.get("answers", ())}  # type: ignore[attr-defined]
    assert study_answers(section_study, titles={}).keys() == named
    assert study_answers(replace(section_study, store=None), titles={}).keys() == named


def test_without_a_store_nothing_is_said_to_be_shown_of_it(section_study: Study) -> None:
    titles = dict.fromkeys(("demographics", "subgroups", "errors"), "there")
    answers = study_answers(replace(section_study, store=None), titles=titles)
    nothing = {answers[name] for name in ("flow", "demographics", "subsets", "severity", "subgroups", "failures")}
    assert len(nothing) == 1
    assert nothing.pop().links == ()


def test_answers_are_those_of_the_study(section_study: Study) -> None:
    answers = study_answers(section_study, titles={})
    for name, numbers in {
        "patches": ("24 patches with", "47 without", "12 mammograms", "6 patients"),
        "left_out": (": 1.",),
        "training": ("learning rate 0.001", "0.3 every 1 epochs"),
        "software": ("tensorflow 2.21.0",),
        "acquisition": ("not in the data",),
    }.items():
        assert all(number in answers[name].text for number in numbers)


def test_resampled_images_are_told_with_the_pixel_size_they_had(
    section_study: Study, resampled_to_2: Callable[..., Study]
) -> None:
    assert study_answers(section_study, titles={})["preprocessing"].text.startswith("Mammograms never resampled; ")
    answers = study_answers(resampled_to_2(0.1, 0.1), titles={})
    assert answers["preprocessing"].text.startswith("Mammograms resampled by area to 0.2 mm a pixel; patches of 8 x 8")
    assert answers["acquisition"].text.startswith("uint8 pixels of 0.1 mm at the median;")


def test_networks_that_were_trained_otherwise_are_told_apart(section_study: Study) -> None:
    settings = AugmentationConfig(negatives_per_positive=3, min_negative_tissue=0.5)
    other = replace(section_study.networks[0], name="other", config=Config(augmentation=settings))
    study = replace(section_study, networks=(*section_study.networks, other))
    text = study_answers(study, titles={})["imbalance"].text
    assert text.count("; or ") == 1
    assert "3 negatives" in text
    assert "50%" in text


def test_what_was_not_done_is_not_claimed(section_study: Study) -> None:
    answers = study_answers(section_study, titles={"shortcut": "Shortcut"})
    for name in ("robustness", "explanation", "external", "differences"):
        assert answers[name].links == ()
        assert answers[name].text == read_items("answers")[name]["otherwise"]
    assert study_answers(section_study, titles={"external": "Elsewhere"})["external"] == Answer(
        read_items("answers")["external"]["text"], (("external", "Elsewhere"),)
    )


def test_answers_link_to_what_is_on_the_page_and_to_nothing_else(section_study: Study) -> None:
    section = checklists_section(section_study, sections=SECTIONS)
    checklists = [block for block in section.body if isinstance(block, Checklist)]
    links = {link for checklist in checklists for answer in checklist.answers.values() for link in answer.links}
    assert links == set(TITLES.items())


def test_the_page_says_how_many_items_are_answered_and_asks_for_the_official_checklist(section_study: Study) -> None:
    section = checklists_section(section_study, sections=())
    intro, *notes = (block for block in section.body if isinstance(block, Text))
    assert "official checklists must be used" in intro.text
    for name, note in zip(CHECKLISTS, notes, strict=True):
        assert f"{sum('wanted' not in item for item in items(name))} of {len(items(name))}" in note.text
