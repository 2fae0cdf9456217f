"""Patients and mammograms of each subset by age, density, assessment, pathology and vendor.

Owns one table. What the data do not say is counted as unknown, never left out.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import pandas as pd

Row = tuple[str | int | None, ...]

_UNKNOWN: Final = "unknown"
_OF_IMAGES: Final = (("density", "density"), ("birads", "BI-RADS"), ("pathology", "pathology"), ("vendor", "vendor"))
_MOST_VALUES: Final = 10
"""A column with more different words is cut to so many of the commonest and the rest together."""


def demographics(images: pd.DataFrame, assignment: Mapping[str, str]) -> tuple[Row, ...]:
    """Rows of what is counted, its value, and the count in each subset, in order, and in all.

    Args:
        images: of a store; age counts by patient, the other columns by mammogram.
        assignment: the subset of each patient.
    """
    subsets = images["patient_id"].map(dict(assignment))
    groups = [images[subsets == letter] for letter in sorted(set(assignment.values()))]
    groups.append(images)
    rows = _age_rows(groups)
    for column, name in _OF_IMAGES:
        rows.extend(_value_rows(groups, column=column, name=name))
    return tuple(rows)


def _age_rows(groups: Sequence[pd.DataFrame]) -> list[Row]:
    ages = [group.groupby("patient_id", sort=False)["age"].first() for group in groups]
    told = [age.dropna() for age in ages]
    rows: list[Row] = []
    if any(len(age) for age in told):
        rows.append(("age, median (range)", "", *(_range(age) for age in told)))
    rows.append(("age", "patients, unknown", *(len(age) - len(known) for age, known in zip(ages, told, strict=True))))
    rows.insert(0, ("patients", "", *(len(age) for age in ages)))
    return rows


def _range(ages: pd.Series) -> str | None:
    return f"{ages.median():.4g} ({ages.min():.4g} to {ages.max():.4g})" if len(ages) else None


def _value_rows(groups: Sequence[pd.DataFrame], *, column: str, name: str) -> list[Row]:
    """A row for each value of a column, the commonest first where there are many, and one for unknown."""
    values = [group[column].fillna(_UNKNOWN).astype(str) for group in groups]
    total = values[-1].value_counts()
    known = [str(value) for value in total.index if value != _UNKNOWN]
    shown = sorted(known[:_MOST_VALUES]) if len(known) <= _MOST_VALUES else known[: _MOST_VALUES - 1]
    rows: list[Row] = [(name, value, *(int((part == value).sum()) for part in values)) for value in shown]
    rest = set(known) - set(shown)
    if rest:
        rows.append((name, f"other ({len(rest)} values)", *(int(part.isin(rest).sum()) for part in values)))
    if _UNKNOWN in total.index or not known:
        rows.append((name, _UNKNOWN, *(int((part == _UNKNOWN).sum()) for part in values)))
    return rows
