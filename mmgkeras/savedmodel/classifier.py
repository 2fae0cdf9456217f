"""A SavedModel at work: patches or a mammogram in, probabilities out.

Owns loading, the conversion of pixel types, and the division of a mammogram into the model's batches. Knows nothing of
stores, labels and tables.
"""

import time
from pathlib import Path
from typing import Final, cast

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mmgkeras.errors import InputError
from mmgkeras.savedmodel.export import ENDPOINT, INPUT, OUTPUT
from mmgkeras.savedmodel.metadata import ModelMetadata, read_metadata
from mmgkeras.schema import Grid, Mammogram, Pixels, ScoreMap

BATCH_SIZE: Final = 64
"""Patches per call of the endpoint: the memory of a whole mammogram of overlapping patches is not needed at once."""


class Classifier:
    """A loaded SavedModel.

    Attributes:
        path: its folder.
        metadata: what it says of itself.
    """

    def __init__(
        self,
        path: Path,
        *,
        metadata: ModelMetadata,
        model: tf.Module,
        batch_size: int = BATCH_SIZE,
    ) -> None:
        """Use `load`."""
        self.path = path
        self.metadata = metadata
        self._model = model  # A signature holds its variables weakly: without their model they would be gone.
        self._endpoint = model.signatures[ENDPOINT]
        self._batch_size = batch_size

    def classify(self, patches: Pixels) -> NDArray[np.float32]:
        """(N,) float32 probability of calcification of raw patches (N, patch_px, patch_px, 1), uint8 or uint16.

        Patches of 8 bits are promoted to a model of 16 bits by 257, which maps 255 to 65535.

        Raises:
            InputError: for patches of another size, of another type, or of 16 bits where the model takes 8.
        """
        expected = (self.metadata.patch_px, self.metadata.patch_px, 1)
        if patches.ndim != 4 or patches.shape[1:] != expected:
            raise InputError(f"{self.path}: takes patches of shape (N, {_text(expected)}). Received: {patches.shape}")
        raw = self._converted(patches)
        if len(raw) == 0:
            return np.zeros(0, dtype=np.float32)
        starts = range(0, len(raw), self._batch_size)
        return np.concatenate([self._call(raw[start : start + self._batch_size]) for start in starts])

    def score(self, mammogram: Mammogram, *, stride_px: int | None = None) -> ScoreMap:
        """The probability of every patch of a mammogram, and the seconds that their inference took (paper, 3.4.2).

        Args:
            mammogram: of any size; its chest-wall edge anchors the grid.
            stride_px: distance between neighbouring patches in pixels, at most `patch_px`; None for the model's.

        Raises:
            InputError: if its pixels have 16 bits and the model takes 8, or the stride leaves pixels out.
        """
        patch_px = self.metadata.patch_px
        stride_px = self.metadata.stride_px if stride_px is None else stride_px
        if not 1 <= stride_px <= patch_px:
            raise InputError(f"{self.path}: takes a stride of 1 to {patch_px} pixels. Received: {stride_px}")
        height, width = mammogram.pixels.shape
        grid = Grid(height, width, patch_px, stride_px, mammogram.record.chest_wall_side)
        patches = cast(Pixels, grid.cut(mammogram.pixels).reshape(-1, patch_px, patch_px, 1))
        start = time.perf_counter()
        try:
            probabilities = self.classify(patches)
        except InputError as error:
            raise InputError(f"{mammogram.record.image_id}: {error}") from error
        seconds = time.perf_counter() - start
        return ScoreMap(mammogram.record.image_id, grid, probabilities.reshape(grid.rows, grid.cols), seconds)

    def _converted(self, patches: Pixels) -> Pixels:
        """The patches in the model's pixel type."""
        received, wanted = str(patches.dtype), self.metadata.pixel_type
        if received == wanted:
            return patches
        if (received, wanted) == ("uint8", "uint16"):
            return patches.astype(np.uint16) * np.uint16(257)
        allowed = "uint8 or uint16" if wanted == "uint16" else "uint8, and does not round 16 bits to 8"
        raise InputError(f"{self.path}: takes pixels of type {allowed}. Received: {received}")

    def _call(self, raw: Pixels) -> NDArray[np.float32]:
        probabilities: NDArray[np.float32] = self._endpoint(**{INPUT: tf.constant(raw)})[OUTPUT].numpy()
        return probabilities


def load(path: Path) -> Classifier:
    """The classifier of a SavedModel's folder, `saved_models/<name>/<version>`.

    Raises:
        InputError: if the folder is no SavedModel of ours, is damaged, or takes other patches than it says.
    """
    metadata = read_metadata(path)
    try:
        model = tf.saved_model.load(str(path))
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be loaded, is a file damaged or missing? {reason}") from error
    if ENDPOINT not in model.signatures:
        raise InputError(f"{path}: has no endpoint {ENDPOINT}. Received: {', '.join(model.signatures) or 'none'}")
    _check_input(model, metadata=metadata, path=path)
    return Classifier(path, metadata=metadata, model=model)


def _check_input(model: tf.Module, *, metadata: ModelMetadata, path: Path) -> None:
    """Refuses a model whose graph and metadata disagree about its patches."""
    spec = model.signatures[ENDPOINT].structured_input_signature[1].get(INPUT)
    expected = f"(None, {metadata.patch_px}, {metadata.patch_px}, 1) {metadata.pixel_type}"
    received = "none" if spec is None else f"{tuple(spec.shape)} {spec.dtype.name}"
    if received != expected:
        raise InputError(f"{path}: its metadata says that {INPUT} is {expected}. Received from the graph: {received}")


def _text(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
