"""Whether the networks differ: every pair, with intervals and corrected p values.

Owns the wording and the table. The tests are `evaluation.comparison`'s.
"""

from typing import Final

from mmgkeras.evaluation.comparison import Comparison, compare_networks
from mmgkeras.evaluation.interval import Difference
from mmgkeras.evaluation.summary import SELECTIONS, selected
from mmgkeras.report.page import missing, paragraph
from mmgkeras.report.table import Cell, Section, Table
from mmgkeras.study.read import Study

_METHOD: Final = (
    "Difference of the AUC of two networks on the same patches. That of the means over folds is tested by resampling "
    "patients, the same ones for both networks; that of the pooled AUC by Obuchowski's variance for clustered data "
    "(1997), a cluster being a patient. The p values are two-sided, and corrected by Holm over the pairs of each test. "
    "They hold for these trained models: another training may give another result."
)
_COLUMNS: Final = ("Networks", "AUC", "Test", "Difference", "Standard error", "Statistic", "p", "p, Holm")


def differences_section(study: Study, *, num_resamples: int) -> Section:
    """All pairs of networks on tissue patches and on all."""
    title = "Differences between networks"
    if len(study.networks) < 2:
        text = f"There is one network, {study.networks[0].name}, and nothing to compare it with."
        return Section(anchor="differences", title=title, body=(missing(text),))
    body: list[str | Table] = [paragraph(_METHOD)]
    for selection, name in SELECTIONS.items():
        predictions = {network.name: selected(network.first.predictions, selection) for network in study.networks}
        pairs = compare_networks(predictions, num_resamples=num_resamples, folds=study.folds)
        body.append(_table(pairs, selection=selection, name=name))
    return Section(anchor="differences", title=title, body=tuple(body))


def _table(pairs: tuple[Comparison, ...], *, selection: str, name: str) -> Table:
    rows = [
        _row(pair, auc=auc, test=test, found=found)
        for auc, test in (("mean over folds", "bootstrap"), ("pooled", "Obuchowski"), ("pooled", "DeLong"))
        for pair in pairs
        if (found := _found(pair, auc=auc, test=test)) is not None or test != "DeLong"
    ]
    return Table(
        name=f"differences_{selection}",
        title=f"Differences of AUC, {name}",
        columns=_COLUMNS,
        rows=tuple(rows),
        note="DeLong's test takes patches as independent and is given only where each patient has one patch.",
    )


def _found(pair: Comparison, *, auc: str, test: str) -> Difference | None:
    return pair.delong if test == "DeLong" else pair.pooled if auc == "pooled" else pair.fold_mean


def _row(pair: Comparison, *, auc: str, test: str, found: Difference | None) -> tuple[Cell, ...]:
    names = (f"{pair.a} \u2212 {pair.b}", auc, test)
    if found is None:
        return (*names, None, None, None, None, None)
    return (*names, found.interval, found.se, found.statistic, _p(found.p), _p(found.p_holm))


def _p(value: float | None) -> Cell:
    """A p value; below 0.001 three decimals would make it 0."""
    return "< 0.001" if value is not None and value < 0.001 else value
