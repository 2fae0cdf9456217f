from collections.abc import Callable
from dataclasses import replace

import pytest

from mmgkeras.config import AugmentationConfig, Config, ModelConfig, TrainConfig
from mmgkeras.report.checklists import CHECKLISTS, checklists_section, read_items, study_answers
from mmgkeras.report.content import Answer, Checklist, Heading, Section, Table, Text
from mmgkeras.study.read import Study
from mmgkeras.study.run_files import Environment, Origin

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
        "training": ("learning rate 0.001", "0.3 every 1 epochs", "in the last layer times 10"),
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


def texts(study: Study, **changes: object) -> dict[str, str]:
    """The answers where the study's network has another configuration, sections by name."""
    network = replace(study.networks[0], config=Config(**changes))  # type: ignore[arg-type]
    answers = study_answers(replace(study, networks=(network,)), titles={})
    return {name: answer.text for name, answer in answers.items()}


def test_what_is_exported_is_told_as_it_was_made(section_study: Study) -> None:
    assert texts(section_study)["selection"] == (
        "No epoch is chosen: the weights after the last epoch are exported; no patient is held out."
    )
    train = TrainConfig(ema_momentum=0.99, initial_share=0.25, validation_patients=0.2)
    averaged = texts(section_study, train=train)
    assert averaged["selection"] == (
        "No epoch is chosen: 75% of moving averages of the weights over the steps and 25% of the initial weights are "
        "exported; 20% of the training patients are held out and watched."
    )
    assert averaged["partition"].endswith("all others train but for those held out.")
    assert texts(section_study)["partition"].endswith("all others train.")


def test_the_augmentation_is_told_as_it_was_set(section_study: Study) -> None:
    plain = texts(section_study, augmentation=AugmentationConfig(intensities=(1.0,), insertion=0.2))["augmentation"]
    assert "darkened" not in plain
    assert "phantom calcifications put into 20% of the negatives on tissue, which are positives then" in plain
    paper = texts(section_study)
    assert "darkened (1, 0.5, 0.75)" in paper["augmentation"]
    assert "phantom" not in paper["augmentation"]
    assert "balanced" not in paper["imbalance"]


def test_a_network_is_told_with_its_width_and_pooling(section_study: Study) -> None:
    model = ModelConfig(weights="none", width=0.5, pooling="top_k")
    assert texts(section_study, model=model)["model"].startswith("resnet18 of width 0.5 with top_k pooling, one")
    assert texts(section_study)["model"].startswith("resnet18, one")


def test_labels_that_were_assumed_are_told(section_study: Study) -> None:
    store = section_study.store
    assert store is not None
    labels = store.manifest.labels.model_copy(update={"label_source": "assumed"})
    manifest = store.manifest.model_copy(update={"labels": labels})
    assumed = texts(replace(section_study, store=replace(store, manifest=manifest)))
    assert "negatives also from mammograms called normal" in assumed["reference"]
    assert "called normal are assumed" in assumed["missing"]
    assert texts(section_study)["missing"].endswith("Nothing is imputed.")
    assert "normal" not in texts(section_study)["reference"]


def test_initial_weights_of_a_trained_model_say_what_is_known_of_its_patients(section_study: Study) -> None:
    origin = Origin(store_checksum="0" * 64, fold=1, test_patients_sha256="1" * 64, variables_sha256="2" * 64)
    network = section_study.networks[0]
    begun = Environment.model_construct(started_from=(origin,))
    first = replace(network.first, environments={1: begun})
    study = replace(section_study, networks=(replace(network, seeds={0: first}),))
    known = "a trained model; whether it knew test patients was told by store and division alone"
    assert known in study_answers(study, titles={})["initial"].text
    assert known not in study_answers(section_study, titles={})["initial"].text


def test_answers_hold_where_folds_were_left_out_or_one_was_run(section_study: Study) -> None:
    answers = texts(section_study)
    assert answers["internal"] == (
        "Cross-validation: every test patch is scored by the model that was not trained on its patient."
    )
    assert answers["size"].startswith("6 patients, each tested in one fold; 24 positive patches.")
    assert answers["flow"] == "From listed images to patches of known label."
    assert "others, where there are any, were chosen" in answers["threshold"]
    assert answers["calibration"].endswith("recalibrated where other patients allow it.")
    assert answers["ensemble"].startswith("None in the cross-validation:")  # models are averaged on external sets


def test_tests_of_networks_are_those_that_are_made(section_study: Study) -> None:
    other = replace(section_study.networks[0], name="other")
    study = replace(section_study, networks=(*section_study.networks, other))
    text = study_answers(study, titles={})["differences"].text
    assert "Obuchowski" in text
    assert "bootstrap" not in text


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
