"""Writes the detector's weights from its training: the last step of `make detector`.

    python benchmarks/pack_detector.py --model detector/saved_models/detector/1 \
        --data detector/data --out mmgkeras/models/detector_weights

Takes an exported model and the phantoms that it learned from, and writes detector.safetensors
(float16) and detector.json: settings, seed, the version of the phantoms' generator, the checksums of
phantoms, patch store and weights. In the package's own folder, where `model.weights = "detector"`
looks for them, they are shipped with it.
"""

import argparse
import json
from pathlib import Path

from mmgkeras.config import ModelConfig
from mmgkeras.models.network import build_network
from mmgkeras.models.weights import WEIGHTS, save_detector
from mmgkeras.savedmodel.initial_weights import load_exported_weights
from mmgkeras.savedmodel.metadata import read_metadata
from mmgkeras.sources.phantom import PROVENANCE

LARGEST_MB = 24


def pack(model: Path, data: Path, out: Path) -> int:
    """Writes both files; gives the bytes of the weights."""
    metadata = read_metadata(model)
    config = ModelConfig(**metadata.config["model"])
    network = build_network(config, patch_px=metadata.patch_px, pixel_type=metadata.pixel_type)
    load_exported_weights(network, model)
    out.mkdir(parents=True, exist_ok=True)
    provenance = {
        "patch_px": metadata.patch_px,
        "spacing_mm": metadata.spacing_mm,
        "mmgkeras_version": metadata.mmgkeras_version,
        "store_checksum": metadata.store_checksum,
        "held_out_fold": metadata.fold,
        "config": metadata.config,
        "phantom": json.loads((data / PROVENANCE).read_text(encoding="utf-8")),
    }
    save_detector(network, config, out, provenance=provenance)
    return (out / WEIGHTS).stat().st_size


def main() -> None:
    """Packs the weights and says how large they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    megabytes = pack(options.model, options.data, options.out) / 1e6
    print(f"{options.out}: weights of {megabytes:.1f} MB")
    if megabytes > LARGEST_MB:
        raise SystemExit(f"the weights must have at most {LARGEST_MB} MB")


if __name__ == "__main__":
    main()
