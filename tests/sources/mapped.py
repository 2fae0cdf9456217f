"""A mapping of a CSV file of boxes, and what is imported by one."""

from pathlib import Path

import numpy as np
from PIL import Image

from mmgkeras.schema import ImageRecord, Region
from mmgkeras.sources.data_set import ImportReport, import_data_set
from mmgkeras.sources.image_mapping import read_mapping
from mmgkeras.sources.mapped_table import read_mapped_table
from mmgkeras.tables import read_images, read_regions

CSV = r"""
images = "scans/*.png"
pattern = '(?P<patient>P\d+)_(?P<side>left|right)_(?P<view>CC|MLO)'
annotations = "boxes.csv"
format = "csv"

[image]
patient_id = "{patient}"
laterality = "{side}"
view = "{view}"
annotation = "partial"
spacing_mm = "0.07"

[words.laterality]
left = "L"
right = "R"

[kinds]
calc = "cluster"
mass = "other"

[csv]
image = "ImageName"
label = "Type"
box = ["xmin", "ymin", "xmax", "ymax"]
"""
BOXES = "ImageName,Type,xmin,ymin,xmax,ymax,reader\n"


def scan(source: Path, name: str) -> None:
    (source / "scans").mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(1200, dtype=np.uint8).reshape(40, 30)).save(source / "scans" / name)


def imported(tmp_path: Path, mapping: str, **files: str) -> tuple[ImportReport, dict[str, ImageRecord], list[Region]]:
    """Of the folder `source`, with files whose names have __ for the dot."""
    source, out = tmp_path / "source", tmp_path / "out"
    for name, content in files.items():
        (source / name.replace("__", ".")).write_text(content)
    (tmp_path / "mapping.toml").write_text(mapping)

    def read(*arguments: object) -> None:
        read_mapped_table(*arguments, mapping=read_mapping(tmp_path / "mapping.toml"))  # type: ignore[arg-type]

    report = import_data_set("your images", read, source, out)
    return report, {one.image_id: one for one in read_images(out / "images.csv")}, read_regions(out / "regions.csv")
