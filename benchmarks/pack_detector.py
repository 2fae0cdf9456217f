"""Writes the detector's weights from its training: the last step of `make detector`.

    python benchmarks/pack_detector.py --model detector/saved_models/detector/1 --data detector/data \
        --finer detector/saved_models/finer/1 --finer-data detector/data-finer \
        --unseen detector/unseen-plain-0.2 --out mmgkeras/models/detector_weights

Takes an exported model, the one that went on from it in smaller pixels, the phantoms that they learned from, and
phantoms of other seeds on which their thresholds are chosen. Writes detector.safetensors (float16) and detector.json:
settings, seed, the version of the phantoms' generator, the checksums of phantoms, patch store and weights, and how
many false marks an image they make at which threshold; the same but for the last of the finer one, into the folder
finer. Without a finer one only the weights are written, as its training needs them. In the package's own folder,
where `model.weights = "detector"` and `mmgkeras predict` look for them, they are shipped with it.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mmgkeras import images
from mmgkeras.config import ModelConfig
from mmgkeras.inference.detection import detect
from mmgkeras.inference.mark_rate import THRESHOLDS, place_within
from mmgkeras.models.network import build_network
from mmgkeras.models.weights import DIGEST, WEIGHTS, check_detector, save_detector
from mmgkeras.patches.region_masks import region_mask, scaled_region
from mmgkeras.savedmodel.classifier import Classifier, load
from mmgkeras.savedmodel.detector import FINER
from mmgkeras.savedmodel.export import export
from mmgkeras.savedmodel.initial_weights import load_exported_weights
from mmgkeras.savedmodel.metadata import read_metadata
from mmgkeras.schema import Region
from mmgkeras.sources.phantom import PROVENANCE
from mmgkeras.study.run_files import Origin
from mmgkeras.tables import read_images, read_regions

LARGEST_MB = 24
PER_IMAGE = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
LEVEL = 0.5
"""Is added to the log odds of the finer model, so that both make about as many false marks at equal thresholds."""
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
        detection = detect([classifier], native)
        mean = detection.score_map.stitch()
        shape = native.pixels.shape[0], native.pixels.shape[1]
        here = [scaled_region(region, shape=shape, to=mean.shape) for region in regions.get(record.image_id, [])]
        findings, count = ndimage.label(covered(here, mean.shape))
        clusters = covered([region for region in here if region.kind == "cluster"], mean.shape)
        of_clusters = set(findings[clusters].tolist())
        near_px = round(NEAR_MM / (detection.resampled_to_mm or record.spacing_mm or NEAR_MM))
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


def operating_points(model: Path, finer: Path, folders: list[Path]) -> list[dict[str, float]]:
    """For each number of false marks an image the lowest threshold that keeps to it, and the findings hit there."""
    classifier = load(model)
    classifier.finer = load(finer)
    counts = Counts()
    for folder in folders:
        count_marks(classifier, folder, counts)
    if not counts.clusters:
        raise SystemExit("the unseen phantoms have no cluster; make more of them")
    rates = np.maximum.accumulate(counts.false_marks) / counts.images
    points: list[dict[str, float]] = []
    for per_image in PER_IMAGE:
        place = place_within(counts.false_marks, most=per_image * counts.images)
        if place is None:
            raise SystemExit(f"no threshold keeps to {per_image:g} false marks an image")
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


def trained(model: Path) -> keras.Model:
    """The network of an exported model."""
    metadata = read_metadata(model)
    config = ModelConfig(**metadata.config["model"])
    network = build_network(config, patch_px=metadata.patch_px, pixel_type=metadata.pixel_type)
    load_exported_weights(network, model)
    return network


def levelled(model: Path, folder: Path) -> Path:
    """The same model with LEVEL added, exported into a folder."""
    network = trained(model)
    network.layers[-1].bias.assign_add([0.0, LEVEL])
    export(network, folder / "1", read_metadata(model))
    return folder / "1"


def pack(model: Path, data: Path, out: Path, *, started_from: tuple[Origin, ...] = (), **told: object) -> int:
    """Writes the weights of a model and their provenance; gives the bytes of the weights."""
    metadata = read_metadata(model)
    out.mkdir(parents=True, exist_ok=True)
    provenance = {
        "metadata": metadata.model_copy(update={"started_from": started_from}).model_dump(mode="json"),
        "phantom": json.loads((data / PROVENANCE).read_text(encoding="utf-8")),
        **told,
    }
    save_detector(trained(model), ModelConfig(**metadata.config["model"]), out, provenance=provenance)
    return (out / WEIGHTS).stat().st_size


def origin(folder: Path) -> Origin:
    """Of packed weights, which `fit` does not tell of those that it takes as "detector"."""
    record = check_detector(folder)
    names = ("store_checksum", "fold", "test_patients_sha256")
    return Origin(variables_sha256=record[DIGEST], **{name: record["metadata"][name] for name in names})


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
    parser.add_argument("--finer", type=Path, help="of the finer model, once it is there")
    parser.add_argument("--finer-data", type=Path)
    parser.add_argument("--unseen", type=Path, action="append", help="repeatable")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.finer is None:
        num_bytes = pack(options.model, options.data, options.out)
    else:
        with tempfile.TemporaryDirectory() as folder:
            finer = levelled(options.finer, Path(folder))
            judged_on = "phantoms that it has not seen: " + " and ".join(map(described, options.unseen))
            points = operating_points(options.model, finer, options.unseen)
            num_bytes = pack(options.model, options.data, options.out, false_marks=points, judged_on=judged_on)
            started_from = (origin(options.out),)
            place = options.out / FINER
            num_bytes += pack(finer, options.finer_data, place, started_from=started_from, level=LEVEL)
    megabytes = num_bytes / 1e6
    print(f"{options.out}: weights of {megabytes:.1f} MB")
    if megabytes > LARGEST_MB:
        raise SystemExit(f"the weights must have at most {LARGEST_MB} MB")


if __name__ == "__main__":
    main()
