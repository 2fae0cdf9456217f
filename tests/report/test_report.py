import csv
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mmgkeras.config import AugmentationConfig
from mmgkeras.errors import InputError
from mmgkeras.evaluation.interval import Interval
from mmgkeras.evaluation.outputs import standing
from mmgkeras.evaluation.summary import Measured, measure_selections
from mmgkeras.patches.store import PatchStore
from mmgkeras.report.comparison_with_paper import paper_numbers, paper_section
from mmgkeras.report.comparisons import differences_section
from mmgkeras.report.content import Cell, Charts, Section, Table, Text
from mmgkeras.report.curves import froc_section, roc_section
from mmgkeras.report.html_page import write_tables
from mmgkeras.report.performance import headline_section, spread_section
from mmgkeras.report.probabilities import calibration_section, operating_points_section
from mmgkeras.report.report import build_sections, write_report
from mmgkeras.study.read import Study, read_study
from mmgkeras.tables import write_regions

R18, R50 = "sakaida2023-resnet18", "sakaida2023-resnet50"


class Ids(HTMLParser):
    """Collects ids, links and what a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.ids += [named["id"] or ""] if "id" in named else []
        self.links += [named["href"] or ""] if tag == "a" else []
        self.sources += [named[name] or "" for name in ("src", "href") if name in named and tag != "a"]


@pytest.fixture(scope="module")
def study(crossval_folder: Path) -> Study:
    return read_study(crossval_folder)


def test_columns_of_the_users_own_may_have_any_name(new_crossval: Callable[..., Path]) -> None:
    folder = new_crossval(validation=0.2)
    names = ("brightness", "num_marks", "calcified_px", "num_envelopes", "index", "density", "vendor")
    for path in folder.glob("*/*/*/[pv]*[ns].csv"):
        frame = pd.read_csv(path)
        frame.assign(**dict.fromkeys(names, "mine")).to_csv(path, index=False)
    build_sections(read_study(folder), num_resamples=100)


@pytest.fixture(scope="module")
def made(crossval_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Section, ...]]:
    """The page of a report, and the sections that it was made of."""
    built: list[tuple[Section, ...]] = []

    def build(*arguments: Any, **options: Any) -> tuple[Section, ...]:
        built.append(build_sections(*arguments, **options))
        return built[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmgkeras.report.report.build_sections", build)
        page = write_report(crossval_folder, out=tmp_path_factory.mktemp("out") / "report", num_resamples=200)
    return page, built[0]


@pytest.fixture(scope="module")
def report(made: tuple[Path, tuple[Section, ...]]) -> Path:
    return made[0]


@pytest.fixture(scope="module")
def sections(made: tuple[Path, tuple[Section, ...]]) -> Mapping[str, Section]:
    return {section.anchor: section for section in made[1]}


def measured(study: Study) -> Measured:
    return {one.name: measure_selections(one.first.predictions, num_resamples=100) for one in study.networks}


def table(section: Section, name: str) -> Table:
    return next(part for part in section.body if isinstance(part, Table) and part.name == name)


def text_of(section: Section, *, kind: str | None = None) -> str:
    """The paragraphs of a section, or those of one kind."""
    texts = [block for block in section.body if isinstance(block, Text)]
    texts += [
        chart
        for block in section.body
        if isinstance(block, Charts)
        for chart in block.charts
        if isinstance(chart, Text)
    ]
    return "\n".join(text.text for text in texts if kind is None or text.kind == kind)


def cells(section: Section, name: str) -> dict[tuple[Cell, ...], tuple[Cell, ...]]:
    """Rows by their first two cells."""
    return {row[:2]: row[2:] for row in table(section, name).rows}


def test_the_page_is_one_file_that_fetches_nothing(report: Path) -> None:
    page = Ids()
    page.feed(report.read_text(encoding="utf-8"))
    assert all(source.startswith(("data:", "#")) for source in page.sources)
    assert len(page.ids) == len(set(page.ids)), sorted(name for name in page.ids if page.ids.count(name) > 1)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert {path.name for path in report.parent.iterdir()} == {"report.html", "tables"}


def test_every_table_is_written_as_csv_and_latex(report: Path) -> None:
    names = {path.name for path in (report.parent / "tables").iterdir()}
    for name in ("table1", *(f"table{number}" for number in range(3, 11)), "metrics_tissue", "froc_sensitivity"):
        assert {f"{name}.csv", f"{name}.tex"} <= names
    assert {Path(name).stem for name in names if name.endswith(".csv")} == {
        Path(name).stem for name in names if name.endswith(".tex")
    }


def test_trust_names_every_file_that_holds_ids(study: Study, report: Path) -> None:
    ids = set(study.networks[0].first.predictions[["image_id", "patient_id"]].to_numpy().ravel())
    held = {
        path.relative_to(report.parent)
        for path in report.parent.rglob("*")
        if path.is_file() and not ids.isdisjoint(re.findall(r"\w+", path.read_text()))
    }
    page = (Path(__file__).parents[2] / "docs" / "trust.md").read_text()
    assert all(f"`{path}`" in page or f"`{path.with_suffix('')}.*`" in page for path in held), held


def test_the_headline_has_tissue_first_and_its_numbers_are_those_of_the_folds(study: Study, report: Path) -> None:
    text = (report.parent / "tables" / "metrics_tissue.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert [row[""] for row in rows[:3]] == [R18, R50, "always no"]
    assert rows[3][""].startswith("best baseline (")
    predictions = study.networks[0].first.predictions
    tissue = predictions[(predictions["tissue"] >= 0.5) & (predictions["label"] >= 0)]
    aucs = [roc_auc_score(part["label"], part["probability"]) for _, part in tissue.groupby("fold")]
    assert float(rows[0]["AUC"]) == pytest.approx(np.mean(aucs), abs=1e-5)
    assert float(rows[0]["AUC low"]) < np.mean(aucs) < float(rows[0]["AUC high"])
    assert float(rows[2]["AUC"]) == 0.5
    page = report.read_text(encoding="utf-8")
    assert page.index('id="metrics_tissue"') < page.index('id="metrics_all"') < page.index('id="pooled_tissue"')


def test_always_no_has_its_own_accuracy_of_each_mammogram(study: Study, sections: Mapping[str, Section]) -> None:
    rows = {row[0]: row for row in table(sections["headline"], "metrics_all").rows}
    predictions = study.networks[0].first.predictions
    known = predictions[predictions["label"] >= 0]
    of_mammograms = (known["label"] == 0).groupby([known["fold"], known["image_id"]]).mean()
    assert rows["always no"][-1] == pytest.approx(of_mammograms.groupby("fold").mean().mean())


def test_the_lead_says_where_the_best_baseline_stands(study: Study) -> None:
    found = measured(study)
    lead = headline_section(study, found, num_resamples=100).body[0]
    assert isinstance(lead, Text)
    assert lead.kind == "lead"
    beside = standing(found[R18]["tissue"].summary)
    assert beside is not None
    assert f", {beside}." in lead.text.replace("\u2212", "-")


def test_table_7_is_ours_the_papers_and_the_difference(sections: Mapping[str, Section]) -> None:
    rows = cells(sections["paper"], "table7")
    ours, paper, difference = rows[R18, "Sensitivity"]
    assert paper == 0.734
    assert difference.estimate == pytest.approx(ours.estimate - 0.734)  # type: ignore[union-attr]
    assert difference.low == pytest.approx(ours.low - 0.734)  # type: ignore[union-attr]
    assert len(rows) == 12


def test_count_tables_take_ours_from_the_data(study: Study, sections: Mapping[str, Section]) -> None:
    assert table(sections["paper"], "table1").rows[0] == ("R", "CC", 0 + 20, 53, 20 - 53)
    predictions = study.networks[0].first.predictions
    positives = int((predictions["label"] == 1).sum())
    assert table(sections["paper"], "table3").rows[0] == ("yes", positives, 1029, positives - 1029)
    tested = predictions[predictions["fold"] == 1]
    row = table(sections["paper"], "table4").rows[0]
    assert row[:4] == ("A", tested["patient_id"].nunique(), 16, tested["patient_id"].nunique() - 16)
    trained = int(((predictions["fold"] != 1) & (predictions["label"] == 1)).sum())
    assert table(sections["paper"], "table5").rows[0][4:6] == (trained, 835)
    assert table(sections["paper"], "table6").rows[0][4:6] == (24 * trained, 20040)


def test_metrics_are_not_said_to_differ_from_the_papers_for_the_data_alone(sections: Mapping[str, Section]) -> None:
    assert "data or settings (see Provenance) are not the paper's" in text_of(sections["paper"])


def test_curves_of_held_out_patients_are_not_said_to_be_of_training_samples(sections: Mapping[str, Section]) -> None:
    assert "Metrics but those of held-out patients are of the augmented training samples" in text_of(
        sections["training"]
    )


def test_the_papers_tables_agree_with_each_other() -> None:
    paper = paper_numbers()
    subsets, yes, no = paper["subsets"].values(), paper["calcification"]["yes"], paper["calcification"]["no"]
    assert [sum(row[place] for row in subsets) for place in range(4)] == [81, 212, yes, no]
    assert sum(paper["images"].values()) == 212
    for fold, (train_no, train_yes, test_no, test_yes) in paper["folds"].items():
        assert (train_no + test_no, train_yes + test_yes) == (no, yes) == (14020, 1029)
        assert paper["augmented"][fold] == [2 * train_no, 24 * train_yes]


def test_the_papers_tables_of_the_data_are_folded_where_the_data_differ(sections: Mapping[str, Section]) -> None:
    folded = {block.name for block in sections["paper"].body if isinstance(block, Table) and block.is_folded}
    assert folded == {"table1", "table3", "table4", "table5", "table6"}


def test_a_network_that_the_paper_lacks_is_said(new_crossval: Callable[..., Path]) -> None:
    study = read_study(new_crossval(networks={"densenet": "DenseNet121"}))
    section = paper_section(study, measured(study))
    assert "densenet" in text_of(section, kind="missing")
    assert cells(section, "table8")["densenet", "AUC"][1:] == (None, None)
    assert "densenet" in text_of(differences_section(study), kind="missing")


def test_what_is_not_there_is_said_where_it_would_stand(new_crossval: Callable[..., Path]) -> None:
    folder = new_crossval(networks={R18: "resnet18"}, data=None)
    for name in ("timing.csv", "shortcut.csv", "pointing.csv", "history.csv", "environment.json"):
        for path in folder.rglob(name):
            path.unlink()
    sections = {section.anchor: section for section in build_sections(read_study(folder), num_resamples=100)}
    for anchor, lacking in {
        "paper": ("Table 9", "Tables 5 and 6"),
        "timing": ("timing.csv",),
        "training": ("history.csv of fold 1, 2, 3, 4, 5",),
        "calibration": (R18,),
        "spread": ("one seed (0)",),
        "shortcut": ("resnet18",),
        "localisation": ("resnet18",),
        "subgroups": ("regions.csv",),
    }.items():
        assert all(words in text_of(sections[anchor], kind="missing") for words in lacking)
    assert "component" in text_of(sections["froc"])
    assert "assumed" not in sections
    assert "external" not in sections


def test_a_page_without_its_store_says_so(
    new_crossval: Callable[..., Path], report_store: PatchStore, tmp_path: Path
) -> None:
    folder = new_crossval(networks={R18: "resnet18"})
    path = folder / "crossval.json"
    path.write_text(path.read_text().replace(str(report_store.path), str(tmp_path / "gone")))
    page = write_report(folder, out=tmp_path / "report", num_resamples=100).read_text(encoding="utf-8")
    assert "Table 1: not given" in page
    assert str(tmp_path) not in page


def test_seeds_are_spread_apart(new_crossval: Callable[..., Path]) -> None:
    study = read_study(new_crossval(networks={R18: "resnet18"}, seeds=(0, 1)))
    rows = [row[:2] for row in table(spread_section(study, measured(study)), "seeds_tissue").rows]
    assert rows == [(R18, "seed 0"), (R18, "seed 1"), (R18, "standard deviation")]


def test_one_fold_is_not_called_a_mean(new_crossval: Callable[..., Path], tmp_path: Path) -> None:
    folder = new_crossval(networks={R18: "resnet18"})
    path = folder / "crossval.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"folds": [2]}))
    page = write_report(folder, out=tmp_path / "report", num_resamples=100).read_text(encoding="utf-8")
    assert "Fold 2 alone, tissue patches" in page
    assert not re.search(r"[Mm]ean (?:over|of) 1 folds", page)
    assert "needs two folds at least" in page
    num_mammograms = [
        sum(int(row[name]) for row in csv.DictReader((tmp_path / "report" / "tables" / file).read_text().splitlines()))
        for file, name in (("table1.csv", "Ours"), ("mammogram_accuracy.csv", "Fold"))
    ]
    assert num_mammograms[1] == 2 * num_mammograms[0]  # every row says fold 2


def test_a_fold_without_positives_on_tissue_leaves_no_mean_there(new_crossval: Callable[..., Path]) -> None:
    folder = new_crossval(networks={R18: "resnet18"})
    path = folder / R18 / "seed0" / "fold1" / "predictions.csv"
    frame = pd.read_csv(path)
    frame.loc[frame["label"] == 1, "tissue"] = 0.2
    frame.to_csv(path, index=False)
    study = read_study(folder)
    headline = headline_section(study, measured(study), num_resamples=100)
    assert table(headline, "metrics_tissue").rows[0][1] is None
    assert isinstance(table(headline, "metrics_all").rows[0][1], Interval)
    assert "no AUC" in text_of(headline, kind="lead")
    assert R18 in text_of(roc_section(study), kind="missing")


def test_held_out_patients_are_fitted_on_where_there_are_any(new_crossval: Callable[..., Path]) -> None:
    study = read_study(new_crossval(networks={R18: "resnet18"}, validation=0.2))
    assert "held-out patients" in text_of(calibration_section(study, num_resamples=50))
    assert "held-out patients" in text_of(operating_points_section(study, num_resamples=50))


def test_the_free_response_curve_says_what_counts_as_a_target(sections: Mapping[str, Section]) -> None:
    assert "target is hit" in text_of(sections["froc"])


def test_without_a_target_there_is_no_free_response_curve(section_study: Study, tmp_path: Path) -> None:
    write_regions(tmp_path / "regions.csv", [])
    section = froc_section(replace(section_study, data_path=tmp_path), num_resamples=10)
    assert "no target" in text_of(section, kind="missing")


def test_other_folds_are_fitted_on_where_nobody_was_held_out(sections: Mapping[str, Section]) -> None:
    assert "the other folds" in text_of(sections["calibration"])
    assert "the other folds" in text_of(sections["operating-points"])


def test_calibration_leaves_out_the_negatives_that_training_does(study: Study) -> None:
    network = study.networks[0]
    config = network.config.model_copy(update={"augmentation": AugmentationConfig(min_negative_tissue=0.5)})
    paper, without = (
        table(calibration_section(replace(study, networks=(one,)), num_resamples=50), "calibration_measures").rows
        for one in (network, replace(network, config=config))
    )
    mean_probability = -2
    assert without[0] == paper[0]  # as trained
    assert without[1][:3] == paper[1][:3] == (R18, "tissue", "shifted to the field's prevalence")
    assert float(str(without[1][mean_probability])) > float(str(paper[1][mean_probability]))


def test_probabilities_are_not_shifted_from_a_prevalence_that_insertion_changed(study: Study) -> None:
    network = study.networks[0]
    config = network.config.model_copy(update={"augmentation": AugmentationConfig(insertion=0.2)})
    section = calibration_section(replace(study, networks=(replace(network, config=config),)), num_resamples=50)
    states = [row[2] for row in table(section, "calibration_measures").rows]
    assert states == ["as trained", "recalibrated"] * 2
    assert "augmentation.insertion" in text_of(section, kind="missing")
    whole = calibration_section(replace(study, networks=(network,)), num_resamples=50)
    assert table(section, "calibration_measures").rows[1] == table(whole, "calibration_measures").rows[2]


def test_negatives_that_become_positive_are_said_to_be_counted_as_they_were(study: Study) -> None:
    network = study.networks[0]
    config = network.config.model_copy(update={"augmentation": AugmentationConfig(insertion=0.2)})
    inserted = paper_section(replace(study, networks=(replace(network, config=config),)), measured(study))
    assert "augmentation.insertion" in table(inserted, "table6").note
    assert "insertion" not in table(paper_section(study, measured(study)), "table6").note


def test_an_output_that_is_there_is_refused_and_replaced_only_if_it_is_a_report(
    new_crossval: Callable[..., Path], tmp_path: Path
) -> None:
    folder = new_crossval(networks={R18: "resnet18"})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(InputError, match="already exists"):
        write_report(folder, out=tmp_path / "mine")
    with pytest.raises(InputError, match=r"mine: is not this command's to replace, it has no report\.html; name"):
        write_report(folder, out=tmp_path / "mine", overwrite=True)


def test_two_tables_of_one_name_are_refused(tmp_path: Path) -> None:
    one = Table(name="a", title="t", columns=("x",), rows=())
    with pytest.raises(ValueError, match=r"a name of its own\. Received: 'a' twice"):
        write_tables(tmp_path / "tables", iter([one, one]))


def test_no_number_on_the_page_is_written_as_python_writes_it(report: Path) -> None:
    assert not re.findall(r">(?:nan|None|inf|np\.\w+\(.*?)<", report.read_text(encoding="utf-8"))


def test_no_folder_of_the_machine_is_told(report: Path, report_store: PatchStore) -> None:
    for path in report.parent.rglob("*.*"):
        text = re.sub(r'"data:[^"]+"', "", path.read_text(encoding="utf-8"))
        assert str(report_store.path.parent) not in text
        assert not re.search(r"(?<![\w.:+/-])/(?:home|root|tmp|private|Users)/", text)
