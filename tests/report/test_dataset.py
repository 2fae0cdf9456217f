from collections.abc import Callable
from dataclasses import replace

import pytest

from mmgkeras.errors import InputError
from mmgkeras.report.content import Bullets, Flow, Section, Table, Text
from mmgkeras.report.dataset import dataset_section
from mmgkeras.study.read import Study


@pytest.fixture
def section(section_study: Study) -> Section:
    return dataset_section(section_study)


def table(section: Section, name: str) -> Table:
    return next(part for part in section.body if isinstance(part, Table) and part.name == name)


def test_flow_counts_listed_images_left_out_images_and_patches_by_label(section: Section) -> None:
    (flow,) = (block for block in section.body if isinstance(block, Flow))
    assert flow.caption.endswith("to the patches of known label.")  # of all folds, whichever were run
    listed, mammograms, patches, known = flow.steps
    numbers = [[line.split()[0] for line in (*step.lines, *step.left_out)] for step in (listed, mammograms, patches)]
    assert numbers == [["13", "1", "reasons"], ["12", "of"], ["72", "1", "neither"]]
    assert [line.split()[0] for line in known.lines] == ["71", "24", "47", "71"]


def test_left_out_images_are_listed_with_their_reasons(section: Section) -> None:
    (row,) = table(section, "left_out").rows
    assert row[:2] == ("image", "P9_L")
    assert "absent<b>.png" in str(row[2])
    assert "/" not in str(row[2])


def test_mammograms_are_counted_by_breast_and_view(section: Section) -> None:
    views = table(section, "mammograms_by_view")
    assert views.columns == ("Breast", "CC", "MLO", "All")
    assert views.rows == (("left", 6, 0, 6), ("right", 0, 6, 6), ("all", 6, 6, 12))


def test_subsets_sum_to_all(section: Section) -> None:
    subsets = table(section, "subsets")
    assert subsets.rows[0][:7] == ("A", 1, 3, 6, 12, 23, 1)
    assert subsets.rows[1][:7] == ("B", 2, 3, 6, 12, 24, 0)
    assert subsets.rows[2][:7] == ("all", None, 6, 12, 24, 47, 1)
    assert subsets.rows[2][7:] == (24, 47)


def test_demographics_count_what_is_unknown(section: Section) -> None:
    rows = {row[:2]: row[2:] for row in table(section, "demographics").rows}
    assert rows["patients", ""] == (3, 3, 6)
    assert rows["age, median (range)", ""] == ("50 (50 to 50)", "60 (60 to 60)", "55 (50 to 60)")
    assert rows["age", "patients, unknown"] == (2, 2, 4)
    assert rows["density", "A"] == (4, 2, 6)
    assert rows["density", "B"] == (2, 4, 6)
    assert rows["vendor", "unknown"] == (6, 6, 12)
    assert ("density", "unknown") not in rows
    assert "trained on the others alone" in table(section, "demographics").note  # not on all of them


def test_reference_standard_tells_the_rule_and_leaves_blanks_for_the_readers(section: Section) -> None:
    told, wanted = (block.items for block in section.body if isinstance(block, Bullets))
    assert "0.5" in told[0].text
    assert "12" in told[1].text
    assert {item.kind for item in told} == {""}
    assert {item.kind for item in wanted} == {"blank"}


def test_reference_standard_tells_how_many_marks_it_took(section_study: Study) -> None:
    store = section_study.store
    assert store is not None
    labels = store.manifest.labels.model_copy(update={"min_marks": 3})
    manifest = store.manifest.model_copy(update={"labels": labels})
    section = dataset_section(replace(section_study, store=replace(store, manifest=manifest)))
    told = next(block.items for block in section.body if isinstance(block, Bullets))
    assert "any pixel of at least 3 individual calcifications" in told[0].text


def pixels_sentence(section: Section) -> str:
    return next(block.text for block in section.body if isinstance(block, Text) and "Patches" in block.text)


def test_images_that_were_never_resampled_are_said_to_be(
    section: Section, resampled_to_2: Callable[..., Study]
) -> None:
    assert "uint8; the size of a pixel is not known. They were never resampled. Patches" in pixels_sentence(section)
    same = dataset_section(resampled_to_2(0.2, None))
    assert "a pixel is 0.2 mm wide, not known of 1 image. They were never resampled." in pixels_sentence(same)


def test_images_that_were_resampled_have_their_own_size(resampled_to_2: Callable[..., Study]) -> None:
    assert pixels_sentence(dataset_section(resampled_to_2(0.1, 0.1))) == (
        "The mammograms have 16 x 24 pixels at the median (height 16 to 16, width 24 to 24), uint8; a pixel is 0.1 mm "
        "wide. They were resampled by area to 0.2 mm a pixel. Patches do not overlap."
    )


def test_images_that_were_resampled_otherwise_are_counted(resampled_to_2: Callable[..., Study]) -> None:
    sentence = pixels_sentence(dataset_section(resampled_to_2(0.1, 0.4, 0.1, None)))
    assert "a pixel is 0.1 mm wide at the median (0.1 to 0.4), not known of 1 image" in sentence
    ways = "2 by area, 1 by linear interpolation, 1 taken as they were"
    assert f"They were resampled to 0.2 mm a pixel ({ways})." in sentence


def test_unmarked_patches_are_not_called_unknown_where_they_are_assumed(section_study: Study) -> None:
    store = section_study.store
    assert store is not None
    images = store.images.assign(annotation=["partial", "none"] * 6)
    labels = store.manifest.labels.model_copy(update={"label_source": "assumed"})
    manifest = store.manifest.model_copy(update={"labels": labels})
    for told, unless in ((store.manifest, ""), (manifest, ", but for those assumed below")):
        section = dataset_section(replace(section_study, store=replace(store, manifest=told, images=images)))
        bullets = next(block.items for block in section.body if isinstance(block, Bullets))
        assert f"(an unmarked patch is unknown{unless}): 6, not searched{unless}: 6." in bullets[1].text


def test_without_a_store_the_section_says_so(section_study: Study) -> None:
    (only,) = dataset_section(replace(section_study, store=None)).body
    assert isinstance(only, Text)
    assert only.kind == "missing"


def test_a_store_that_was_not_split_is_refused(section_study: Study) -> None:
    assert section_study.store is not None
    folds = section_study.store.path / "folds.csv"
    content = folds.read_bytes()
    folds.unlink()
    try:
        with pytest.raises(InputError, match=r"folds\.csv: is missing"):
            dataset_section(section_study)
    finally:
        folds.write_bytes(content)
