"""What a threshold chosen on one's own normal mammograms is worth: `python -m benchmarks.own_threshold --data DATA`.

The patients of a data folder are divided into two halves. On the images of each that are called normal the detector's
threshold is chosen as by `mmgkeras threshold --operating-point marks=N --images`; on the other half its marks on
normal images are counted, and the regions of calcification that a mark overlaps. docs/detector.md has the result.
"""

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from scipy import ndimage

from benchmarks.pack_detector import covered
from mmgkeras import images
from mmgkeras.inference.detection import detect
from mmgkeras.inference.mark_rate import choose_for_marks
from mmgkeras.patches.region_masks import scaled_region
from mmgkeras.savedmodel.classifier import Classifier
from mmgkeras.savedmodel.detector import load_with_finer, model_folder
from mmgkeras.schema import ImageRecord, Region
from mmgkeras.tables import read_images, read_regions, write_images


@dataclass
class Seen:
    """What a detector made of some images.

    Attributes:
        normal: of each normal image the mean probability (H, W).
        peaks: of each region of calcification the highest in it.
    """

    normal: list[np.ndarray]
    peaks: list[float]

    def marks_per_image(self, threshold: float) -> float:
        """On the normal images."""
        return sum(ndimage.label(mean >= threshold)[1] for mean in self.normal) / len(self.normal)

    def num_marked(self, threshold: float) -> int:
        """Regions that a mark overlaps."""
        return sum(peak >= threshold for peak in self.peaks)


def see(classifier: Classifier, records: Sequence[ImageRecord], regions: Sequence[Region]) -> Seen:
    """Scores the normal images and those with calcification."""
    seen = Seen([], [])
    for record in records:
        here = [one for one in regions if one.image_id == record.image_id and one.kind != "other"]
        if not here and not record.is_called_normal:
            continue
        native = images.read(record, Path())
        mean = detect([classifier], native).score_map.stitch()
        if not here:
            seen.normal.append(mean)
        shape = native.pixels.shape[0], native.pixels.shape[1]
        for region in here:
            inside = covered([scaled_region(region, shape=shape, to=mean.shape)], mean.shape)
            seen.peaks.append(float(mean[inside].max()))
    return seen


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="A data folder that calls images normal.")
@click.option("--marks", default=0.5, show_default=True, help="An image, on the normal ones.")
def main(*, data: Path, marks: float) -> None:
    """Print a row for each half."""
    regions = read_regions(data / "regions.csv")
    records = [replace(one, path=str((data / one.path).resolve())) for one in read_images(data / "images.csv")]
    patients = sorted(
        {one.patient_id for one in records}, key=lambda patient: hashlib.sha256(patient.encode()).digest()
    )
    halves = [[one for one in records if (one.patient_id in patients[::2]) == is_first] for is_first in (True, False)]
    folder = model_folder(Path("detector"))
    classifier = load_with_finer(folder)
    seen = [see(classifier, half, regions) for half in halves]
    own = classifier.metadata.threshold
    click.echo("| chosen on | threshold | marks a normal image there | on the other half | regions marked there |")
    for half, here, there in zip(halves, seen, seen[::-1], strict=True):
        normal = [one for one in half if one.is_called_normal]
        with tempfile.TemporaryDirectory() as place:
            write_images(Path(place) / "images.csv", normal)
            threshold = choose_for_marks(folder, [Path(place)], per_image=marks).operating_point.threshold
        rates = f"{here.marks_per_image(threshold):.2f} | {there.marks_per_image(threshold):.2f}"
        marked = f"{there.num_marked(threshold)} of {len(there.peaks)}"
        told = f"{len(normal)} images of {len({one.patient_id for one in normal})} patients"
        click.echo(f"| {told} | {threshold:.3f} | {rates} on {len(there.normal)} | {marked} |")
    rates = " and ".join(f"{one.marks_per_image(own):.2f}" for one in seen)
    marked = f"{sum(one.num_marked(own) for one in seen)} of {sum(len(one.peaks) for one in seen)}"
    click.echo(f"its own, {own:.3f}: {rates} marks a normal image of the halves; {marked} regions")


if __name__ == "__main__":
    main()
