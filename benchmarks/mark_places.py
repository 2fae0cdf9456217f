"""How often a mark points at a finding, as `predict` makes marks, by the number of false ones.

    python benchmarks/mark_places.py --data mini-mias/data --within-mm 0
    python benchmarks/mark_places.py --data detector/unseen-plain-0.2 --stride 16

A finding, that is a region or regions that touch, is pointed at if the row and column of a mark lie in it or at most so
far from it. False are the marks on images called normal; in a data folder without such images, the phantoms', the marks
that point at nothing, on all. Prints for each stride, in Markdown, the part of the findings pointed at, of those with a
cluster region and of all, at so many false marks an image at most.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pack_detector import Counts, covered
from scipy import ndimage

from mmgkeras import images
from mmgkeras.inference.detection import detect, find_marks
from mmgkeras.inference.mark_rate import THRESHOLDS, place_within
from mmgkeras.savedmodel.classifier import Classifier
from mmgkeras.savedmodel.detector import load_with_finer, model_folder
from mmgkeras.schema import Region
from mmgkeras.tables import read_images, read_regions

PER_IMAGE = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Findings:
    """Of an image: the nearest finding to each pixel, from 1, and how far it is in mm; which have a cluster region."""

    nearest: NDArray[np.int64]
    distance_mm: NDArray[np.float64]
    of_clusters: set[int]
    count: int


def findings_of(regions: list[Region], shape: tuple[int, ...], *, spacing_mm: float) -> Findings:
    """The findings that the regions of an image make; without any, all is infinitely far."""
    if not regions:
        return Findings(np.zeros(shape, np.int64), np.full(shape, np.inf), set(), 0)
    numbers, count = ndimage.label(covered(regions, shape))
    clusters = covered([region for region in regions if region.kind == "cluster"], shape)
    far_px, places = ndimage.distance_transform_edt(numbers == 0, return_indices=True)
    return Findings(numbers[tuple(places)], far_px * spacing_mm, set(numbers[clusters].tolist()) - {0}, count)


def count_folder(classifier: Classifier, data: Path, *, stride_px: int | None, within_mm: float) -> Counts:
    """The counts of the images of a data folder: of those with a region, and of those on which false marks count."""
    counts, records = Counts(), read_images(data / "images.csv")
    regions: dict[str, list[Region]] = {}
    for region in read_regions(data / "regions.csv"):
        regions.setdefault(region.image_id, []).append(region)
    has_normal = any(record.is_called_normal for record in records)
    for record in records:
        is_counted = record.is_called_normal or not has_normal
        if not is_counted and record.image_id not in regions:
            continue
        if record.spacing_mm is None:
            raise SystemExit(f"{data}: the pixel size of {record.image_id} must be known, to tell how far a mark lies")
        native = images.read(record, data)
        detection = detect([classifier], native, stride_px=stride_px)
        shape = native.pixels.shape[0], native.pixels.shape[1]
        findings = findings_of(regions.get(record.image_id, []), shape, spacing_mm=record.spacing_mm)
        counts.images += is_counted
        counts.findings += findings.count
        counts.clusters += len(findings.of_clusters)
        for place, threshold in enumerate(THRESHOLDS):
            marks = find_marks(detection, threshold=float(threshold), shape=shape)
            points = np.array([(mark.row, mark.col) for mark in marks]).reshape(-1, 2).round().astype(int)
            rows, cols = points.clip(0, np.array(shape) - 1).T
            is_near = findings.distance_mm[rows, cols] <= within_mm
            hit = set(findings.nearest[rows, cols][is_near].tolist())
            counts.hits[place] += len(hit)
            counts.cluster_hits[place] += len(hit & findings.of_clusters)
            counts.false_marks[place] += is_counted * int((~is_near).sum())
    return counts


def row_of(name: str, counts: Counts) -> str:
    """A line of the table: the part of the clusters, and of all findings."""
    cells = []
    for per_image in PER_IMAGE:
        place = place_within(counts.false_marks, most=per_image * counts.images)
        parts = (counts.cluster_hits, counts.clusters), (counts.hits, counts.findings)
        cells.append("n/a" if place is None else ", ".join(f"{hit[place] / max(of, 1):.2f}" for hit, of in parts))
    return f"| {name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", required=True, help="repeatable")
    parser.add_argument("--model", type=Path, default=Path("detector"))
    parser.add_argument(
        "--stride", type=int, action="append", help="of the model's pixels; repeatable; its own if none"
    )
    parser.add_argument("--within-mm", type=float, default=3.0)
    options = parser.parse_args()
    classifier = load_with_finer(model_folder(options.model), is_folded=True)
    print("| | " + " | ".join(f"{rate:g}" for rate in PER_IMAGE) + " |\n" + "|---" * (1 + len(PER_IMAGE)) + "|")
    for data in options.data:
        for stride_px in options.stride or [None]:
            counts = count_folder(classifier, data, stride_px=stride_px, within_mm=options.within_mm)
            told = f"{counts.clusters} clusters of {counts.findings} findings, {counts.images} images"
            print(row_of(f"{data.name}, stride {stride_px or 'as it is'}: {told}", counts), flush=True)


if __name__ == "__main__":
    main()
