"""Which mammograms a user means who names files, folders and tables.

Owns what stands for what: a folder for every image file below it, or for its images.csv; a table for its rows, which
say side, chest wall and pixel size.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mmgkeras.errors import InputError, InputFaultsError, one_line
from mmgkeras.files import files_below, note_on_links
from mmgkeras.images.reader import is_image_file, read_pixels
from mmgkeras.images.single import SideFrom, Single, gray_notes, read_single
from mmgkeras.images.tissue import find_breast
from mmgkeras.schema import ImageRecord, Laterality, Mammogram
from mmgkeras.tables import read_images

_TABLE: Final = "images.csv"


@dataclass(frozen=True, slots=True)
class Input:
    """One mammogram that was asked for.

    Attributes:
        path: of the image file.
        record: its row of images.csv; None for a file alone.
    """

    path: Path
    record: ImageRecord | None = None

    def read(self, *, laterality: Laterality | None, spacing_mm: float | None) -> Single:
        """The mammogram; what the options say stands above header, name and table.

        Raises:
            InputError: as `read_single`.
        """
        if self.record is None:
            return read_single(self.path, laterality=laterality, spacing_mm=spacing_mm)
        record = replace(
            self.record,
            laterality=laterality or self.record.laterality,
            chest_wall=self.record.chest_wall_side,
            spacing_mm=spacing_mm or self.record.spacing_mm,
        )
        standard = "right" if record.laterality == "R" else "left"
        side_from: SideFrom = "the option" if laterality else "the table"
        pixels = read_pixels(self.path)
        breast = find_breast(pixels)
        notes = gray_notes(pixels, breast)
        return Single(Mammogram(pixels, record), side_from, record.chest_wall_side != standard, notes, breast)

    def reason(self, error: InputError) -> str:
        """Why this mammogram cannot be used, on one line and without its name."""
        return "; ".join(str(error).splitlines()).removeprefix(one_line(f"{self.path}: "))


def find_inputs(
    paths: Iterable[Path], *, is_result: Callable[[Path], bool] = lambda _: False
) -> tuple[list[Input], list[str]]:
    """The mammograms of files, folders and tables, each once and in that order, and what was passed over, in lines.

    Image files of a folder that are results of an earlier call are passed over.

    Raises:
        InputError: for a table that cannot be read, or a folder without any image file.
    """
    found: dict[Path, Input] = {}
    notes = []
    for path in paths:
        if path.is_dir() and not (path / _TABLE).is_file():
            files = [file for file in files_below(path) if not _is_hidden(file, path)]
            images = [file for file in files if is_image_file(file) and not is_result(file)]
            if not images:
                raise InputFaultsError([f"{path}: holds no image file, and no {_TABLE}", *note_on_links(path)])
            if len(images) < len(files):
                number = f"{len(files) - len(images)} of {len(files)} files"
                notes.append(f"{path}: passed over {number}, no image or a result of this command")
            notes.extend(note_on_links(path))
            inputs: Sequence[Input] = [Input(file) for file in images]
        elif path.is_dir() or path.suffix.lower() == ".csv":
            table = path / _TABLE if path.is_dir() else path
            inputs = [Input(table.parent / record.path, record) for record in read_images(table)]
        else:
            inputs = [Input(path)]
        for one in inputs:
            found.setdefault(one.path, one)
    return list(found.values()), notes


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)
