"""Compares phantoms with films by numbers that need no label: noise, spectrum, contrast, brightness, directions.

    mmgkeras import mini-mias DIR --out mini-mias/data
    mmgkeras phantom --out plain --patients 12 --seed 1 --spacing-mm 0.2
    mmgkeras phantom --out randomised --patients 12 --seed 1 --spacing-mm 0.2 --looks randomised
    python benchmarks/phantom_statistics.py mini-mias/data plain randomised

Prints one table in Markdown for docs/phantom.md: of every number the median and the 5th and 95th percentile over tissue
patches of 12.8 mm (breast on all of the patch), 20 an image, 60 images of each folder. Gray levels are of 255. No label
is read. All folders must have one pixel size. A minute for each folder.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from mmgkeras.images.reader import read
from mmgkeras.images.tissue import tissue_mask
from mmgkeras.tables import read_images

PATCH_MM = 12.8
NUM_IMAGES = 60
PATCHES_PER_IMAGE = 20
LOCAL_MM = 1.8
FINE_BAND = (1.5, 2.4)
COARSE_BAND = (0.2, 0.8)

Floats = NDArray[np.floating]


def measure_patch(patch: Floats, *, spacing_mm: float) -> dict[str, float]:
    """The numbers of one patch (P, P) of gray levels of 255."""
    second = patch - ndimage.convolve1d(patch, [0.5, 0, 0.5], axis=0)
    noise = second - ndimage.convolve1d(second, [0.5, 0, 0.5], axis=1)
    size = max(3, round(LOCAL_MM / spacing_mm) | 1)
    local = patch - ndimage.uniform_filter(patch, size)
    spread = local.std() + 1e-6
    return {
        "mean gray": float(patch.mean()),
        "noise (second differences), gray levels": 1.4826 * float(np.median(np.abs(noise))) / 1.5,
        "local contrast (9 x 9 px at 0.2 mm), SD": float(spread),
        "greatest local contrast / SD": float(local.max() / spread),
        "lowest local contrast / SD": float(local.min() / spread),
        "autocorrelation of it across at 0.4 mm": _autocorrelation(local, lag=round(0.4 / spacing_mm), axis=1),
        "autocorrelation of it down at 0.4 mm": _autocorrelation(local, lag=round(0.4 / spacing_mm), axis=0),
        "spectrum's slope at 0.2-0.8 /mm": _slope(patch, COARSE_BAND, spacing_mm=spacing_mm),
        "spectrum's slope at 1.5-2.4 /mm": _slope(patch, FINE_BAND, spacing_mm=spacing_mm),
    }


def _autocorrelation(values: Floats, *, lag: int, axis: int) -> float:
    values = np.moveaxis(values - values.mean(), axis, 0)
    return float((values[lag:] * values[:-lag]).mean() / (values.var() + 1e-9))


def _slope(patch: Floats, band: tuple[float, float], *, spacing_mm: float) -> float:
    """The slope of the radial power spectrum on log scales, with a Hann window."""
    hann = np.hanning(len(patch))
    power = np.abs(fft.fft2((patch - patch.mean()) * np.outer(hann, hann))) ** 2
    frequency = np.abs(fft.fftfreq(len(patch), spacing_mm))
    radius = np.hypot(frequency[:, None], frequency[None, :])
    is_in = (radius >= band[0]) & (radius <= band[1])
    edges = np.geomspace(*band, 6)
    bins = np.digitize(radius[is_in], edges)
    logs = [
        (np.log(radius[is_in][bins == place]).mean(), np.log(power[is_in][bins == place].mean() + 1e-9))
        for place in np.unique(bins)
    ]
    return float(np.polyfit(*np.array(logs).T, 1)[0])


def measure_folder(folder: Path) -> dict[str, Floats]:
    """Every number of every patch chosen from a data folder."""
    records = read_images(folder / "images.csv")
    rng = np.random.default_rng(0)
    chosen = [records[place] for place in rng.permutation(len(records))[:NUM_IMAGES]]
    rows: list[dict[str, float]] = []
    of_images = []
    for record in chosen:
        spacing_mm = record.spacing_mm or 0.2
        mammogram = read(record, folder)
        gray = mammogram.pixels.astype(np.float32) * np.float32(255 / np.iinfo(mammogram.pixels.dtype).max)
        size = round(PATCH_MM / spacing_mm)
        places = _tissue_places(tissue_mask(mammogram.pixels), size)
        found = []
        for row, col in rng.permutation(places)[:PATCHES_PER_IMAGE]:
            found.append(measure_patch(gray[row : row + size, col : col + size], spacing_mm=spacing_mm))
        rows.extend(found)
        of_images.append(_across_patches(found))
    numbers = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return numbers | {name: np.array([row[name] for row in of_images if row]) for name in of_images[0]}


def _tissue_places(mask: NDArray[np.bool_], size: int) -> NDArray[np.int64]:
    """(K, 2) top left corners on a grid of half a patch where all is breast."""
    rows, cols = (range(0, length - size, size // 2) for length in mask.shape)
    return np.array([(r, c) for r in rows for c in cols if mask[r : r + size, c : c + size].all()]).reshape(-1, 2)


def _across_patches(found: list[dict[str, float]]) -> dict[str, float]:
    """How noise goes with brightness over the patches of one image."""
    if len(found) < PATCHES_PER_IMAGE:
        return {}
    gray, noise = (
        np.array([row[name] for row in found]) for name in ("mean gray", "noise (second differences), gray levels")
    )
    return {"correlation of noise with brightness in an image": float(np.corrcoef(gray, noise)[0, 1])}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    options = parser.parse_args()
    columns = [measure_folder(folder) for folder in options.folders]
    print("| | " + " | ".join(str(folder) for folder in options.folders) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name in columns[0]:
        cells = []
        for column in columns:
            low, middle, high = np.percentile(column[name], (5, 50, 95))
            cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
