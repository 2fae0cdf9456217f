"""The detector's weights: learned from phantoms alone, with the proof of what they were made from.

Owns the two files of the detector, and that they belong together; how it is trained is configs/detector.toml, and
`make detector` does it. The weights are in the package once that was done.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import keras

from mmgkeras.config import ModelConfig
from mmgkeras.errors import ConfigError, WeightsError
from mmgkeras.files import sha256_file
from mmgkeras.models.network import backbone_of
from mmgkeras.models.tensor_file import load_tensors, save_tensors

DETECTOR: Final = "detector"
"""The word for these weights in `model.weights`."""
DETECTOR_FOLDER: Final = Path(__file__).parent / "detector_weights"
WEIGHTS: Final = "detector.safetensors"
PROVENANCE: Final = "detector.json"
DIGEST: Final = "weights_sha256"
MODEL: Final = "model"
FIXED_KEYS: Final = ("network", "width", "normalisation")
"""Of `ModelConfig`: a network that takes the weights must have these as the detector had them."""


def save_detector(network: keras.Model, config: ModelConfig, folder: Path, *, provenance: Mapping[str, Any]) -> None:
    """Writes the weights in float16 and beside them, as JSON, what they are and what they were made from.

    Args:
        network: of `build_network`.
        config: that it was built by, of network resnet18.
        folder: that exists.
        provenance: settings, seed, the phantoms' own provenance: whatever shows where the weights come from.
    """
    save_tensors(backbone_of(network), folder / WEIGHTS, head=network.layers[-1])
    described = {DIGEST: sha256_file(folder / WEIGHTS), MODEL: config.model_dump(mode="json"), **provenance}
    (folder / PROVENANCE).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def load_detector(network: keras.Model, config: ModelConfig, *, folder: Path) -> None:
    """Gives a network, head included, the detector's weights.

    Raises:
        ConfigError: if the network is of another kind.
        WeightsError: if the files are not there, damaged, or do not belong together.
    """
    try:
        described = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        digest = sha256_file(folder / WEIGHTS)
        model, expected = described[MODEL], described[DIGEST]
    except FileNotFoundError as error:
        raise WeightsError(
            f"model.weights: the detector is not there, {error.filename} is missing; make detector trains it"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder / PROVENANCE}: cannot be read: {error}") from error
    if digest != expected:
        raise WeightsError(f"{folder / WEIGHTS}: is not the file that {PROVENANCE} describes, its checksum differs")
    for key in FIXED_KEYS:
        if getattr(config, key) != model[key]:
            raise ConfigError(f"model.{key}: the detector has {model[key]!r}. Received: {getattr(config, key)!r}")
    load_tensors(backbone_of(network), folder / WEIGHTS, head=network.layers[-1])
