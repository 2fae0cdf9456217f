"""A cross-validation as one page, and every table of it as CSV and LaTeX.

Owns the order of the sections and the files. What a section says is its own module's.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from threadpoolctl import threadpool_limits

from mmgkeras import __version__
from mmgkeras.errors import counted
from mmgkeras.evaluation.bootstrap import NUM_RESAMPLES
from mmgkeras.evaluation.summary import measure_selections
from mmgkeras.files import atomic_folder, check_apart
from mmgkeras.locks import output_lock
from mmgkeras.progress import Track, untracked
from mmgkeras.report.atlas import atlas_section
from mmgkeras.report.checklists import checklists_section
from mmgkeras.report.comparison_with_paper import paper_section
from mmgkeras.report.comparisons import assumed_section, differences_section, external_section
from mmgkeras.report.content import Section
from mmgkeras.report.curves import froc_section, precision_recall_section, roc_section
from mmgkeras.report.dataset import dataset_section
from mmgkeras.report.html_page import TABLE_FILES, TABLES, page, tables_of, write_tables
from mmgkeras.report.model_tests import localisation_section, shortcut_section
from mmgkeras.report.performance import confusion_section, headline_section, mammograms_section, spread_section
from mmgkeras.report.probabilities import calibration_section, operating_points_section
from mmgkeras.report.provenance import provenance_section, timing_section, training_section
from mmgkeras.report.subgroups import subgroups_section
from mmgkeras.study.read import Study, read_study, study_marks

REPORT_HTML: Final = "report.html"
_OWNED: Final = (REPORT_HTML, *TABLE_FILES)


def write_report(
    crossval: Path,
    *,
    out: Path,
    store: Path | None = None,
    data: Path | None = None,
    externals: Sequence[Path] = (),
    num_resamples: int = NUM_RESAMPLES,
    overwrite: bool = False,
    track: Track = untracked,
) -> Path:
    """Writes report.html and tables/*.csv and *.tex into a folder that is whole or not there; returns the page.

    Args:
        crossval: the folder that `mmgkeras crossval` wrote.
        out: the folder to make.
        store: where the patch store is now; by default where crossval.json says.
        data: where the data folder is now; by default where crossval.json says.
        externals: folders that `mmgkeras evaluate` wrote of models on other stores.
        num_resamples: sets of patients drawn for the intervals.
        overwrite: replace an earlier report.
        track: shows progress over networks and sections.

    Raises:
        InputError: if the output exists and `overwrite` is not set, or an input cannot be used.
        InputFaultsError: every fault of the cross-validation, one line each.
    """
    check_apart(out, [path for path in (crossval, store, data, *externals) if path is not None])
    # Products of small matrices: several threads would wait for each other most of the time.
    with (
        threadpool_limits(1, "blas"),
        output_lock(out),
        atomic_folder(out, overwrite=overwrite, owned=_OWNED) as folder,
    ):
        study = read_study(crossval, store=store, data=data)
        sections = build_sections(study, externals=externals, num_resamples=num_resamples, track=track)
        (folder / REPORT_HTML).write_text(_page(study, sections), encoding="utf-8")
        write_tables(folder / TABLES, tables_of(sections))
    return out / REPORT_HTML


def build_sections(
    study: Study, *, externals: Sequence[Path] = (), num_resamples: int = NUM_RESAMPLES, track: Track = untracked
) -> tuple[Section, ...]:
    """Every section that the study has anything for, in the order of the page.

    Raises:
        InputError: if a file that a section needs cannot be used.
    """
    external = external_section(study, externals, num_resamples=num_resamples)
    measured = {
        network.name: measure_selections(network.first.predictions, num_resamples=num_resamples)
        for network in track(study.networks, "resample patients")
    }
    marks = study_marks(study)
    builders: list[Callable[[], Section | None]] = [
        partial(headline_section, study, measured, num_resamples=num_resamples),
        partial(dataset_section, study),
        partial(paper_section, study, measured),
        partial(differences_section, study),
        partial(spread_section, study, measured),
        partial(roc_section, study),
        partial(precision_recall_section, study),
        partial(froc_section, study, num_resamples=num_resamples),
        partial(calibration_section, study, num_resamples=num_resamples),
        partial(operating_points_section, study, num_resamples=num_resamples),
        partial(mammograms_section, study),
        partial(confusion_section, study, measured),
        partial(subgroups_section, study, marks=marks, num_resamples=num_resamples),
        partial(assumed_section, study, num_resamples=num_resamples),
        lambda: external,
        partial(atlas_section, study, marks=marks, num_resamples=num_resamples),
        partial(shortcut_section, study, num_resamples=num_resamples),
        partial(localisation_section, study, num_resamples=num_resamples),
        partial(training_section, study),
        partial(timing_section, study),
        partial(provenance_section, study, num_resamples=num_resamples),
    ]
    built = [section for build in track(builders, "write sections") if (section := build()) is not None]
    return (*built, checklists_section(study, sections=built))


def _page(study: Study, sections: Sequence[Section]) -> str:
    patches = study.networks[0].first.predictions
    networks = ", ".join(network.name for network in study.networks)
    seeds = sorted({seed for network in study.networks for seed in network.seeds})
    facts = (
        f"Cross-validation of {networks}; folds {str(list(study.folds))[1:-1]}; seeds {str(seeds)[1:-1]}.",
        f"{counted(len(patches), 'patch')} of {counted(patches['image_id'].nunique(), 'mammogram')} of "
        f"{counted(patches['patient_id'].nunique(), 'patient')}. After Sakaida et al. 2023, doi 10.3390/a16100483.",
    )
    return page(
        sections,
        title="Calcification in mammograms: report of a cross-validation",
        facts=facts,
        footer=f"mmgkeras {__version__}. Every table is also in {TABLES}/ beside this page, as CSV and LaTeX.",
    )
