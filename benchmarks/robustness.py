"""How well a model reads images that were changed in tone, contrast, noise, sharpness, pixel size, depth or lettering.

    python benchmarks/robustness.py --model detector --data mini-mias/data --store mini-mias/store --max-negatives 16000

Every change is made to whole images at the store's pixel size, with `--as-stored` before they are resampled to it; they
are then divided as the store divides them, and the known patches of which at least half is breast are scored. Prints
one table in Markdown for docs/results.md: the AUC, its difference from that of the first line, and the sensitivity at a
specificity of 98 %. `--max-negatives` leaves out whole images without a positive patch, drawn with seed 0.
"""

import argparse
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from transfer import SPECIFICITY

from mmgkeras import images
from mmgkeras.evaluation.metrics import auc
from mmgkeras.patches.store import PatchStore
from mmgkeras.savedmodel.classifier import Classifier, load
from mmgkeras.savedmodel.detector import model_folder
from mmgkeras.schema import CALCIFICATION, UNKNOWN, Mammogram, Pixels
from mmgkeras.tables import read_images

Change = Callable[[Pixels], Pixels]
Gray = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def gray(change: Gray) -> Change:
    """A change of gray values of 0 to 1."""

    def changed(pixels: Pixels) -> Pixels:
        top = np.iinfo(pixels.dtype).max
        return np.rint(np.clip(change(pixels / top), 0, 1) * top).astype(pixels.dtype)

    return changed


def contrast(factor: float) -> Change:
    """Every pixel's distance from the breast's mean gray times a factor."""

    def changed(pixels: Pixels) -> Pixels:
        breast = images.tissue_mask(pixels)
        top = np.iinfo(pixels.dtype).max
        mean = pixels[breast].mean()
        return np.where(breast, np.rint(np.clip(mean + factor * (pixels - mean), 0, top)), pixels).astype(pixels.dtype)

    return changed


def more_noise(pixels: Pixels) -> Pixels:
    """As much noise again as there is, by the median of the second differences in the breast."""
    values = pixels.astype(np.float64)
    second = np.abs(ndimage.convolve(values, np.outer([1, -2, 1], [1, -2, 1])))[images.tissue_mask(pixels)]
    sigma = np.median(second) / 0.6745 / 6
    noisy = values + np.random.default_rng(0).normal(0, np.sqrt(3) * sigma, values.shape)
    return np.rint(np.clip(noisy, 0, np.iinfo(pixels.dtype).max)).astype(pixels.dtype)


def blurred(pixels: Pixels) -> Pixels:
    """By a Gaussian of one pixel."""
    return np.rint(ndimage.gaussian_filter(pixels.astype(np.float64), 1.0)).astype(pixels.dtype)


def jpeg(quality: int) -> Change:
    """Through a JPEG of a quality, of 8 bits."""

    def changed(pixels: Pixels) -> Pixels:
        narrow = pixels if pixels.dtype == np.uint8 else (pixels // 257).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(narrow).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer))

    return changed


def through(factor: float) -> Change:
    """As if the image had `factor` times as many pixels a length, and were resampled to the model's pixel size."""

    def changed(pixels: Pixels) -> Pixels:
        back = images.resample(images.resample(pixels, factor=factor), factor=1 / factor)
        short = [(0, max(0, size - has)) for size, has in zip(pixels.shape, back.shape, strict=True)]
        return np.pad(back, short, mode="edge")[: pixels.shape[0], : pixels.shape[1]]

    return changed


def lettered(pixels: Pixels) -> Pixels:
    """With bright words over the image, one for each 25 mm at 0.2 mm a pixel."""
    picture = Image.fromarray(np.zeros(pixels.shape, np.uint8))
    pen, random = ImageDraw.Draw(picture), np.random.default_rng(0)
    for _ in range(pixels.size // 125**2):
        row, col = random.integers(0, pixels.shape[0]), random.integers(0, pixels.shape[1])
        pen.text(
            (col, row), str(random.choice(["R CC", "12.03", "L", "MLO"])), font=ImageFont.load_default(14), fill=255
        )
    top = np.iinfo(pixels.dtype).max
    return np.maximum(pixels, (np.asarray(picture) / 255 * top).astype(pixels.dtype))


CHANGES: dict[str, Change] = {
    "as they are": lambda pixels: pixels,
    "gamma 0.5": gray(np.sqrt),
    "gamma 2": gray(np.square),
    "contrast x 0.5": contrast(0.5),
    "contrast x 2": contrast(2.0),
    "noise x 2": more_noise,
    "blur, sigma 1 px": blurred,
    "JPEG, quality 90": jpeg(90),
    "JPEG, quality 75": jpeg(75),
    "JPEG, quality 50": jpeg(50),
    "pixels twice as large, resampled": through(0.5),
    "pixels half as large, resampled": through(2.0),
    "16 bits": lambda pixels: pixels.astype(np.uint16) * np.uint16(257) if pixels.dtype == np.uint8 else pixels,
    "inverted": lambda pixels: np.iinfo(pixels.dtype).max - pixels,
    "lettering on the breast": lettered,
}


def chosen_patches(store: PatchStore, *, max_negatives: int | None) -> NDArray[np.int64]:
    """The places of known tissue patches: all of images with a positive one, and of others as many as are wanted."""
    table = store.patches
    known = table[(table["label"] != UNKNOWN) & (table["tissue"] >= 0.5)]
    ids = known["image_id"].unique()
    with_positive = set(known.loc[known["label"] == CALCIFICATION, "image_id"])
    order = [*with_positive, *np.random.default_rng(0).permutation([name for name in ids if name not in with_positive])]
    counts = known.groupby("image_id").size()
    total, kept = 0, set()
    for name in order:
        if max_negatives is None or total < max_negatives or name in with_positive:
            kept.add(name)
            total += counts[name]
    return known.index[known["image_id"].isin(kept)].to_numpy()


def main() -> None:
    """Prints a line for each change as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--max-negatives", type=int)
    parser.add_argument("--as-stored", action="store_true")
    parser.add_argument("--only", nargs="+", choices=CHANGES, default=list(CHANGES), metavar="CHANGE")
    options = parser.parse_args()
    classifier, store = load(model_folder(options.model)), PatchStore.open(options.store)
    table = store.patches.loc[chosen_patches(store, max_negatives=options.max_negatives)]
    records = {record.image_id: record for record in read_images(options.data / "images.csv")}
    num_positive = int((table["label"] == CALCIFICATION).sum())
    print(f"{num_positive} positive and {len(table) - num_positive:,} negative tissue patches\n")
    print(
        f"| images | AUC | difference | sensitivity at {SPECIFICITY:.0%} specificity |\n|---|---|---|---|", flush=True
    )
    plain = None
    for name in options.only:
        scores, labels = [], []
        for image_id, patches in table.groupby("image_id", sort=False):
            mammogram = images.read(records[str(image_id)], options.data)
            pixels = changed(
                mammogram, CHANGES[name], to_mm=store.manifest.grid.spacing_mm, as_stored=options.as_stored
            )
            scores.append(scored(classifier, store, str(image_id), pixels, patches[["row", "col"]].to_numpy()))
            labels.append(patches["label"].to_numpy())
        probability, label = np.concatenate(scores), np.concatenate(labels)
        area = auc(label, probability)
        plain = area if plain is None else plain
        is_positive = label == CALCIFICATION
        sensitivity = np.mean(probability[is_positive] > np.quantile(probability[~is_positive], SPECIFICITY))
        print(f"| {name} | {area:.3f} | {area - plain:+.3f} | {sensitivity:.2f} |", flush=True)


def changed(mammogram: Mammogram, change: Change, *, to_mm: float | None, as_stored: bool) -> Pixels:
    """The pixels at a pixel size, changed before they are resampled to it or after."""
    if as_stored:
        return images.at_spacing(replace(mammogram, pixels=change(mammogram.pixels)), to_mm).pixels
    return change(images.at_spacing(mammogram, to_mm).pixels)


def scored(
    classifier: Classifier, store: PatchStore, image_id: str, pixels: Pixels, places: NDArray[np.int64]
) -> NDArray[np.float32]:
    """The probabilities of some patches of an image."""
    cut = store.grid(image_id).cut(pixels)
    return classifier.classify(cut[places[:, 0], places[:, 1], ..., None])


if __name__ == "__main__":
    main()
