"""How long the detector takes for one mammogram, beside ResNet18 on patches of 224 px.

    python benchmarks/detector_speed.py
    python benchmarks/detector_speed.py --data detector/unseen-plain-0.1

Both run as `mmgkeras predict` runs them once an image is read: resampling where the pixel size asks for it, breast,
patches with breast alone, network, marks. They take turns, round by round, in one process. The image is a half ellipse
of noise on black, half of the frame, of 16 bits. Prints a table in Markdown for docs/detector.md: the median of the
rounds, and its ratio to ResNet18's. `--data` has what the finer network, of images that are fine, costs beside that of
0.2 mm. `benchmarks/network.py --networks detector --patch-px 64` has the patches a second, and PyTorch's.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from mmgkeras.config import ModelConfig
from mmgkeras.images.reader import read
from mmgkeras.inference.detection import detect, find_marks
from mmgkeras.models.network import build_network
from mmgkeras.savedmodel.classifier import Classifier, load
from mmgkeras.savedmodel.detector import load_with_finer, model_folder, read_detector
from mmgkeras.savedmodel.export import export
from mmgkeras.schema import ImageRecord, Mammogram
from mmgkeras.tables import read_images

SIZES = ((2355, 1315), (4084, 3328))
SPACINGS_MM = (0.1, 0.07)


def mammogram(height: int, width: int, spacing_mm: float | None) -> Mammogram:
    """A half ellipse of noise at the left edge."""
    rows, cols = np.ogrid[-1 : 1 : height * 1j, 0 : 1 : width * 1j]
    noise = np.random.default_rng(0).integers(20_000, 40_000, (height, width), dtype=np.uint16)
    pixels = np.where((rows / 0.95) ** 2 + (cols / 0.75) ** 2 < 1, noise, np.uint16(0))
    return Mammogram(pixels, ImageRecord("one", "one.png", "p", "L", "CC", "complete", spacing_mm=spacing_mm))


def resnet18(folder: Path) -> Classifier:
    """ResNet18 with random weights on patches of 224 px that do not overlap, of unknown pixel size."""
    config = ModelConfig(weights="none")
    metadata = read_detector().metadata.model_copy(
        update={"patch_px": 224, "stride_px": 224, "spacing_mm": None, "pixel_type": "uint16", "operating_point": None}
    )
    export(build_network(config, patch_px=224, pixel_type="uint16"), folder / "resnet18" / "1", metadata)
    return load(folder / "resnet18" / "1")


def seconds(model: Classifier, image: Mammogram) -> float:
    """From pixels to marks."""
    start = time.perf_counter()
    find_marks(detect([model], image), shape=image.pixels.shape, threshold=0.5)
    return time.perf_counter() - start


def compare(data: Path) -> None:
    """Prints the seconds a mammogram of a data folder takes without and with the finer model."""
    folder = model_folder(Path("detector"))
    alone, both = load(folder, is_folded=True), load_with_finer(folder, is_folded=True)
    mammograms = [read(record, data) for record in read_images(data / "images.csv")]
    pairs = [(seconds(alone, one), seconds(both, one)) for one in (mammograms[0], *mammograms)][1:]
    first, second = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(after / before for before, after in pairs)
    print(f"{len(pairs)} mammograms: {first:.2f} s without, {second:.2f} s with the finer model, ratio {ratio:.2f}")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--data", type=Path, help="a data folder of fine images, to see what the finer model costs")
    options = parser.parse_args()
    if options.data is not None:
        compare(options.data)
        return
    with tempfile.TemporaryDirectory() as folder:
        detector, other = load_with_finer(model_folder(Path("detector"))), resnet18(Path(folder))
        print("| image | pixels of | detector | ResNet18, 224 px | ratio |")
        print("|---|---|---|---|---|", flush=True)
        for height, width in SIZES:
            for spacing_mm in (*SPACINGS_MM, None):
                image = mammogram(height, width, spacing_mm)
                pairs = [(seconds(detector, image), seconds(other, image)) for _ in range(options.rounds + 1)][1:]
                ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
                ratio = statistics.median(first / second for first, second in pairs)
                told = "unknown size" if spacing_mm is None else f"{spacing_mm:g} mm"
                print(f"| {height} x {width} | {told} | {ours:.2f} s | {theirs:.2f} s | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
