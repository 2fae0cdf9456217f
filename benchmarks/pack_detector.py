"""Writes the detector's weights from its training: the last step of `make detector`.

    python benchmarks/pack_detector.py --model detector/saved_models/detector/1 --data detector/data \
        --unseen detector/unseen-plain-0.2 --out mmgkeras/models/detector_weights

Takes an exported model, the phantoms that it learned from, and phantoms of other seeds on which its thresholds are
chosen. Writes detector.safetensors (float16) and detector.json: settings, seed, the version of the phantoms'
generator, the checksums of phantoms, patch store and weights, and how many false marks an image it makes at which
threshold. In the package's own folder, where `model.weights = "detector"` and `mmgkeras predict` look for them, they
are shipped with it.
"""

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmgkeras import images
from mmgkeras.config import ModelConfig
from mmgkeras.inference.detection import detect
from mmgkeras.models.network import build_network
from mmgkeras.models.weights import WEIGHTS, save_detector
from mmgkeras.patches.region_masks import region_mask, scaled_region
from mmgkeras.savedmodel.classifier import Classifier
from mmgkeras.savedmodel.detector import export_finer, load_with_finer
from mmgkeras.savedmodel.initial_weights import load_exported_weights
from mmgkeras.savedmodel.metadata import read_metadata
from mmgkeras.schema import Region
from mmgkeras.sources.phantom import PROVENANCE
from mmgkeras.tables import read_images, read_regions

LARGEST_MB = 24
PER_IMAGE = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
THRESHOLDS = 1 / (1 + np.exp(-np.linspace(8, 0, 81)))
"""None below 0.5: marks grow into one another there, which makes fewer of them."""
NEAR_MM = 3.0
"""A mark this near to a finding belongs to it: a patch may hold a finding at its edge."""


@dataclass
class Counts:
    """What was counted on phantoms, by threshold or in all."""

    false_marks: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(THRESHOLDS), np.int64))
    hits: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(THRESHOLDS), np.int64))
    cluster_hits: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(THRESHOLDS), np.int64))
    findings: int = 0
    clusters: int = 0
    images: int = 0


def count_marks(classifier: Classifier, data: Path, counts: Counts) -> None:
    """Adds the images of a data folder to the counts.

    A finding is a cluster region, or a calcification that lies in none. A false mark is one that comes near no finding.
    """
    regions: dict[str, list[Region]] = {}
    for region in read_regions(data / "regions.csv"):
        regions.setdefault(region.image_id, []).append(region)
    for record in read_images(data / "images.csv"):
        native = images.read(record, data)
        mean = detect([classifier], native).score_map.stitch()
        shape = native.pixels.shape[0], native.pixels.shape[1]
        here = [scaled_region(region, shape=shape, to=mean.shape) for region in regions.get(record.image_id, [])]
        findings, count = ndimage.label(covered(here, mean.shape))
        clusters = covered([region for region in here if region.kind == "cluster"], mean.shape)
        of_clusters = set(findings[clusters].tolist())
        spacing_mm = classifier.metadata.spacing_mm or record.spacing_mm
        near_px = round(NEAR_MM / (spacing_mm or NEAR_MM))
        near = ndimage.maximum_filter(findings > 0, size=2 * near_px + 1)
        counts.images += 1
        counts.findings += count
        counts.clusters += len(of_clusters)
        for place, threshold in enumerate(THRESHOLDS):
            marks, number = ndimage.label(mean >= threshold)
            counts.false_marks[place] += number - len(np.unique(marks[near & (marks > 0)]))
            hit = set(findings[(marks > 0) & (findings > 0)].tolist())
            counts.hits[place] += len(hit)
            counts.cluster_hits[place] += len(hit & of_clusters)


def covered(regions: list[Region], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """(H, W) the pixels of any of the regions."""
    return np.any([filled(region, shape) for region in regions], axis=0) if regions else np.zeros(shape, np.bool_)


def filled(region: Region, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """(H, W) the pixels of a region."""
    mask = np.zeros(shape, dtype=np.bool_)
    drawn = region_mask(region, height=shape[0], width=shape[1])
    mask[drawn.window] = drawn.mask
    return mask


def operating_points(model: Path, folders: list[Path]) -> list[dict[str, float]]:
    """For each number of false marks an image the lowest threshold that keeps to it, and the findings hit there."""
    classifier = load_with_finer(model)
    counts = Counts()
    for folder in folders:
        count_marks(classifier, folder, counts)
    if not counts.clusters:
        raise SystemExit("the unseen phantoms have no cluster; make more of them")
    rates = np.maximum.accumulate(counts.false_marks) / counts.images
    points: list[dict[str, float]] = []
    for per_image in PER_IMAGE:
        place = int(np.flatnonzero(rates <= per_image)[-1])
        is_end, counted = place + 1 == len(rates), float(rates[place])
        points.append(
            {
                "per_image": counted if is_end and points and counted > points[-1]["per_image"] else per_image,
                "threshold": float(THRESHOLDS[place]),
                "sensitivity": float(counts.hits[place] / counts.findings),
                "cluster_sensitivity": float(counts.cluster_hits[place] / counts.clusters),
            }
        )
        if is_end and len(points) > 1:
            break
    return points


def pack(model: Path, data: Path, out: Path, *, unseen: list[Path]) -> int:
    """Writes both files; gives the bytes of the weights."""
    metadata = read_metadata(model)
    config = ModelConfig(**metadata.config["model"])

    def network_at(patch_px: int) -> keras.Model:
        network = build_network(config, patch_px=patch_px, pixel_type=metadata.pixel_type)
        load_exported_weights(network, model)
        return network

    export_finer(model, metadata, network_at)
    out.mkdir(parents=True, exist_ok=True)
    judged_on = [described(folder) for folder in unseen]
    provenance = {
        "metadata": metadata.model_dump(mode="json"),
        "phantom": json.loads((data / PROVENANCE).read_text(encoding="utf-8")),
        "false_marks": operating_points(model, unseen),
        "judged_on": "phantoms that it has not seen: " + " and ".join(judged_on),
    }
    save_detector(network_at(metadata.patch_px), config, out, provenance=provenance)
    return (out / WEIGHTS).stat().st_size


def described(folder: Path) -> str:
    """Number, pixel size, looks and seed of phantoms, in words."""
    phantom = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
    looks, seed, sizes_mm = phantom["phantom"]["looks"], phantom["seed"], np.atleast_1d(phantom["spacing_mm"])
    return f"{phantom['patients']} patients at {', '.join(f'{mm:g}' for mm in sizes_mm)} mm, {looks} looks, seed {seed}"


def main() -> None:
    """Packs the weights and says how large they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--unseen", type=Path, action="append", required=True, help="repeatable")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    megabytes = pack(options.model, options.data, options.out, unseen=options.unseen) / 1e6
    print(f"{options.out}: weights of {megabytes:.1f} MB")
    if megabytes > LARGEST_MB:
        raise SystemExit(f"the weights must have at most {LARGEST_MB} MB")


if __name__ == "__main__":
    main()
