"""folds.csv: the subset of each patient, "A" and on; fold k tests subset k (paper, 3.2)."""

from collections.abc import Mapping
from pathlib import Path
from string import ascii_uppercase
from typing import Final

from mmgkeras.errors import shown
from mmgkeras.tables.rows import read_table, write_table

FOLD_COLUMNS: Final = ("patient_id", "subset")


def read_folds(path: Path) -> dict[str, str]:
    """The subset of each patient, in the file's order.

    Raises:
        InputError: if the file cannot be read.
        InputFaultsError: every missing or unknown column, empty patient_id, subset that is not a letter A to Z, and
            patient listed twice, in two subsets or in one.
    """
    table = read_table(path, required=FOLD_COLUMNS)
    assignment: dict[str, str] = {}
    for row in table:
        patient = row.identifier("patient_id")
        subset = row.choice("subset", ascii_uppercase)
        first = assignment.get(patient)
        if first is None:
            assignment[patient] = subset
        elif first == subset:
            row.add_fault(f"a patient must be listed once. Received: {shown(patient)} again")
        else:
            row.add_fault(f"a patient must be in one subset. Received: {shown(patient)} in {first} and {subset}")
    table.raise_faults()
    return assignment


def write_folds(path: Path, assignment: Mapping[str, str], *, overwrite: bool = False) -> None:
    """Writes folds.csv, patients in order.

    Raises:
        InputError: if the file exists and `overwrite` is not set, or cannot be written.
    """
    write_table(path, columns=FOLD_COLUMNS, rows=sorted(assignment.items()), overwrite=overwrite)
