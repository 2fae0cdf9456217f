"""A SavedModel at work: patches or a mammogram in, probabilities out, and class activations where it has them.

Owns loading, the conversion of pixel types, and the division of a mammogram into the model's batches. Knows nothing of
stores, labels and tables.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from mmgkeras.errors import InputError, counted
from mmgkeras.models.localisation import ACTIVATION
from mmgkeras.savedmodel.export import CENTRES, ENDPOINT, INPUT, LOCALISE, OUTPUT, check_path
from mmgkeras.savedmodel.metadata import ModelMetadata, read_metadata
from mmgkeras.savedmodel.operations import check_operations
from mmgkeras.schema import ActivationMap, Grid, Mammogram, Pixels, ScoreMap

BATCH_SIZE: Final = 64
"""Patches per call of the endpoint: the memory of a whole mammogram of overlapping patches is not needed at once."""
SPACING_TOLERANCE: Final = 0.2
"""Beyond this relative difference of pixel sizes a model sees calcifications of a size it was not trained on."""


def compute_in_bfloat16() -> None:
    """Lets every later call of this process compute in bfloat16 on a processor, by oneDNN's rewriting of the graph.

    A processor without such instructions (AVX512-BF16, AMX) goes on in float32.
    """
    tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})


class Classifier:
    """A loaded SavedModel.

    Attributes:
        path: its folder.
        metadata: what it says of itself.
        is_folded: whether its weights are constants.
        finer: a model for smaller pixels, asked in its place by `detect` of images that are as fine; None for none.
    """

    def __init__(
        self,
        path: Path,
        *,
        metadata: ModelMetadata,
        model: tf.Module,
        functions: Mapping[str, Any],
        is_folded: bool,
        finer: "Classifier | None" = None,
    ) -> None:
        """Use `load`."""
        self.path = path
        self.metadata = metadata
        self.is_folded = is_folded
        self.finer = finer
        self._model = model  # A signature holds its variables weakly: without their model they would be gone.
        self._functions = functions

    @property
    def can_localise(self) -> bool:
        """Whether the model says where in a patch its answer comes from: has the endpoint `localise_patches`."""
        return LOCALISE in self._functions

    @property
    def loaded(self) -> tf.Module:
        """What TensorFlow loaded, to be saved as a part of another model."""
        return self._model

    def signature(self, endpoint: str) -> tf.types.experimental.ConcreteFunction:
        """The function behind an endpoint, for a graph that calls it; `self` must live as long."""
        return self._functions[endpoint]

    def with_functions(self, functions: Mapping[str, Any]) -> "Classifier":
        """The same model, without a finer one, with functions behind its endpoints that take and give the same."""
        return Classifier(
            self.path, metadata=self.metadata, model=self._model, functions=functions, is_folded=self.is_folded
        )

    def differs_in_spacing(self, spacing_mm: float | None) -> bool:
        """Whether pixels of this size are not those that the model was trained on; not where either is unknown."""
        own_mm = self.metadata.spacing_mm
        return own_mm is not None and spacing_mm is not None and abs(spacing_mm / own_mm - 1) > SPACING_TOLERANCE

    def check_can_localise(self) -> None:
        """Refuses a model without class activations.

        Raises:
            InputError: if `can_localise` is false.
        """
        if not self.can_localise:
            raise InputError(
                f"{self.path}: gives no class activation, it has no endpoint {LOCALISE}; export it with this version, "
                "which gives one to networks that end in global average pooling"
            )

    def classify(self, patches: Pixels) -> NDArray[np.float32]:
        """(N,) float32 probability of calcification of raw patches (N, patch_px, patch_px, 1), uint8 or uint16.

        Patches of 8 bits are promoted to a model of 16 bits by 257, which maps 255 to 65535.

        Raises:
            InputError: for patches of another size, of another type, or of 16 bits where the model takes 8.
        """
        (probability,) = self._call(ENDPOINT, patches, outputs=(OUTPUT,))
        return probability

    def localise(self, patches: Pixels) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The probabilities (N,) float32 and, from the same pass, the class activations (N, h, w) float32.

        A patch's activation, pooled over its h x w cells as the model does, is the log odds of its probability; cell
        (0, 0) is at the patch's top left, and `cell_centres_px` tells where exactly.

        Raises:
            InputError: as `classify`, and if the model cannot localise.
        """
        self.check_can_localise()
        probability, activation = self._call(LOCALISE, patches, outputs=(OUTPUT, ACTIVATION))
        return probability, activation

    @property
    def cell_centres_px(self) -> NDArray[np.float32]:
        """(h,) where the cells of an activation lie in a patch, as in `ActivationMap`.

        Raises:
            InputError: if the model cannot localise.
        """
        self.check_can_localise()
        return np.asarray(getattr(self._model, CENTRES)(), dtype=np.float32)

    def score(self, mammogram: Mammogram, *, stride_px: int | None = None) -> ScoreMap:
        """The probability of every patch of a mammogram, and the seconds that their inference took (paper, 3.4.2).

        Args:
            mammogram: of any size; its chest-wall edge anchors the grid.
            stride_px: distance between neighbouring patches in pixels, at most `patch_px`; None for the model's.

        Raises:
            InputError: if its pixels have 16 bits and the model takes 8, or the stride leaves pixels out.
        """
        score_map, _ = self._score(mammogram, stride_px=stride_px, run=lambda patches: (self.classify(patches),))
        return score_map

    def localise_mammogram(
        self, mammogram: Mammogram, *, stride_px: int | None = None
    ) -> tuple[ScoreMap, ActivationMap]:
        """As `score`, and the class activation of every patch.

        Raises:
            InputError: as `score`, and if the model cannot localise.
        """
        self.check_can_localise()
        score_map, (activation,) = self._score(mammogram, stride_px=stride_px, run=self.localise)
        return score_map, ActivationMap(activation, self.cell_centres_px)

    def scan(
        self, mammogram: Mammogram, *, stride_px: int | None = None, chosen: NDArray[np.bool_] | None = None
    ) -> tuple[ScoreMap, ActivationMap | None]:
        """As `localise_mammogram` where the model can localise, else as `score`, without an activation.

        Args:
            mammogram: as of `score`.
            stride_px: as of `score`.
            chosen: (rows, cols) the patches to score; the others have probability and activation 0. None for all.

        Raises:
            InputError: as `score`.
        """
        run = self.localise if self.can_localise else lambda patches: (self.classify(patches),)
        score_map, activations = self._score(mammogram, stride_px=stride_px, run=run, chosen=chosen)
        return score_map, ActivationMap(activations[0], self.cell_centres_px) if activations else None

    def _score(
        self,
        mammogram: Mammogram,
        *,
        stride_px: int | None,
        run: Callable[[Pixels], tuple[NDArray[np.float32], ...]],
        chosen: NDArray[np.bool_] | None = None,
    ) -> tuple[ScoreMap, list[NDArray[np.float32]]]:
        """What `run` says of the patches: its probabilities as a map, what else it gives as (rows, cols, ...).

        Of patches of zeros the first is run alone, and stands for the others.
        """
        patch_px = self.metadata.patch_px
        stride_px = self.metadata.stride_px if stride_px is None else stride_px
        check_stride(stride_px, model=self.path, metadata=self.metadata)
        height, width = mammogram.pixels.shape
        grid = Grid(height, width, patch_px, stride_px, mammogram.record.chest_wall_side)
        is_chosen = np.ones((grid.rows, grid.cols), np.bool_) if chosen is None else chosen
        patches = cast(Pixels, grid.cut_chosen(mammogram.pixels, is_chosen)[..., None])
        to_run, answer_of = _without_blanks(patches)
        start = time.perf_counter()
        try:
            outputs = run(patches[to_run])
        except InputError as error:
            raise InputError(f"{mammogram.record.image_id}: {error}") from error
        seconds = time.perf_counter() - start
        maps = [np.zeros((grid.rows, grid.cols, *output.shape[1:]), np.float32) for output in outputs]
        for map_, output in zip(maps, outputs, strict=True):
            map_[is_chosen] = output[answer_of]
        probabilities, *more = maps
        return ScoreMap(mammogram.record.image_id, grid, probabilities, seconds), more

    def _converted(self, patches: Pixels) -> Pixels:
        """The patches in the model's pixel type."""
        received, wanted = str(patches.dtype), self.metadata.pixel_type
        if received == wanted:
            return patches
        if (received, wanted) == ("uint8", "uint16"):
            return patches.astype(np.uint16) * np.uint16(257)
        allowed = "uint8 or uint16" if wanted == "uint16" else "uint8, and does not round 16 bits to 8"
        raise InputError(f"{self.path}: takes pixels of type {allowed}. Received: {received}")

    def _call(self, endpoint: str, patches: Pixels, *, outputs: tuple[str, ...]) -> tuple[NDArray[np.float32], ...]:
        """These outputs of an endpoint, of all patches, batch by batch."""
        patch_px = self.metadata.patch_px
        if patches.ndim != 4 or patches.shape[1:] != (patch_px, patch_px, 1):
            rule = f"takes patches of shape (N, {patch_px}, {patch_px}, 1)"
            raise InputError(f"{self.path}: {rule}. Received: {patches.shape}")
        raw, run = self._converted(patches), self._functions[endpoint]
        if len(raw) == 0:
            return tuple(np.zeros((0, *run.structured_outputs[name].shape[1:]), np.float32) for name in outputs)
        parts = []
        with self._arithmetic():
            for start in range(0, len(raw), BATCH_SIZE):
                part = run(**{INPUT: tf.constant(raw[start : start + BATCH_SIZE])})
                parts.append([part[name].numpy() for name in outputs])
        answers = tuple(np.concatenate(part) for part in zip(*parts, strict=True))
        self._check_answers(dict(zip(outputs, answers, strict=True)))
        return answers

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        """GPUs round to TensorFloat-32 where they did so in the model's training; TensorFlow's default is to."""
        before = tf.config.experimental.tensor_float_32_execution_enabled()
        tf.config.experimental.enable_tensor_float_32_execution(
            self.metadata.config.get("train", {}).get("tf32") is True
        )
        try:
            yield
        finally:
            tf.config.experimental.enable_tensor_float_32_execution(before)

    def _check_answers(self, answers: Mapping[str, NDArray[np.float32]]) -> None:
        """Refuses what is no probability, or no number, before it is drawn or written."""
        probability = answers[OUTPUT]
        is_wrong = ~((probability >= 0) & (probability <= 1))  # NaN is neither
        if is_wrong.any():
            raise InputError(
                f"{self.path}: must give probabilities from 0 to 1. Received: {probability[is_wrong][0]:g} for "
                f"{is_wrong.sum():,} of {counted(is_wrong.size, 'patch')}; are its weights damaged?"
            )
        activation = answers.get(ACTIVATION)
        if activation is not None and not np.isfinite(activation).all():
            raise InputError(f"{self.path}: must give finite class activations. Received: some that are not")


def load(path: Path, *, is_folded: bool = False) -> Classifier:
    """The classifier of a SavedModel's folder, `saved_models/<name>/<version>`.

    A SavedModel is a program: one that could do more than compute is refused before anything of it is run.

    Args:
        path: the folder.
        is_folded: whether the weights become constants of the graph. TensorFlow then multiplies batch normalisation
            into the convolutions before it: up to twice as fast on a processor, and the same to some 1e-7. Loading
            takes a second or two longer.

    Raises:
        InputError: if the folder is no SavedModel of ours, is damaged, holds an operation that is not allowed, or takes
            or gives other tensors than it says.
    """
    metadata = read_metadata(path)
    model = load_graph(path)
    if ENDPOINT not in model.signatures:
        raise InputError(f"{path}: has no endpoint {ENDPOINT}. Received: {', '.join(model.signatures) or 'none'}")
    for endpoint in (ENDPOINT, LOCALISE):
        if endpoint in model.signatures:
            _check_endpoint(model, endpoint, metadata=metadata, path=path)
    endpoints = [endpoint for endpoint in (ENDPOINT, LOCALISE) if endpoint in model.signatures]
    make = _folded if is_folded else _as_it_is
    functions = {endpoint: make(model.signatures[endpoint]) for endpoint in endpoints}
    return Classifier(path, metadata=metadata, model=model, functions=functions, is_folded=is_folded)


def check_stride(stride_px: int | None, *, model: Path, metadata: ModelMetadata) -> None:
    """Refuses a distance between patches that leaves pixels out; None is the model's own.

    Raises:
        InputError: if so, with the model as it was named.
    """
    if stride_px is not None and not 1 <= stride_px <= metadata.patch_px:
        raise InputError(f"{model}: takes a stride of 1 to {metadata.patch_px} pixels. Received: {stride_px}")


def _as_it_is(function: tf.types.experimental.ConcreteFunction) -> tf.types.experimental.ConcreteFunction:
    return function


def _folded(function: tf.types.experimental.ConcreteFunction) -> tf.types.experimental.ConcreteFunction:
    """The same endpoint with constants for variables."""
    constant = convert_variables_to_constants_v2(function)
    outputs = sorted(function.structured_outputs.items())  # the order in which a dictionary's values are flattened
    (spec,) = function.structured_input_signature[1].values()

    def endpoint(patches: tf.Tensor) -> dict[str, tf.Tensor]:
        values = zip(outputs, constant(patches), strict=True)
        return {name: tf.ensure_shape(value, told.shape) for (name, told), value in values}

    return tf.function(endpoint, input_signature=[spec], autograph=False).get_concrete_function()


def _without_blanks(patches: Pixels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(n,) which of the patches (N, P, P, 1) to run, and (N,) which of their outputs is each patch's own."""
    is_blank = ~patches.any(axis=(1, 2, 3))
    is_scored = ~is_blank | (np.cumsum(is_blank) == 1)
    places = np.cumsum(is_scored) - 1
    of_blank = places[is_blank & is_scored].max(initial=0)
    return np.flatnonzero(is_scored), np.where(is_blank, of_blank, places)


def load_graph(path: Path) -> tf.Module:
    """What TensorFlow loads of a SavedModel, once its operations are checked.

    Raises:
        InputError: if it is damaged, or holds an operation that is not allowed, or as `check_path`.
    """
    check_path(path)
    check_operations(path)
    try:
        return tf.saved_model.load(str(path))
    except Exception as error:  # a damaged or forged file makes TensorFlow raise whatever there is
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be loaded, is a file damaged or missing? {reason}") from error


def _check_endpoint(model: tf.Module, endpoint: str, *, metadata: ModelMetadata, path: Path) -> None:
    """Refuses an endpoint that takes other patches than the metadata say, or does not give what it must."""
    run = model.signatures[endpoint]
    inputs = {name: _described(spec) for name, spec in run.structured_input_signature[1].items()}
    expected = f"(None, {metadata.patch_px}, {metadata.patch_px}, 1) {metadata.pixel_type}"
    if inputs != {INPUT: expected}:
        raise InputError(
            f"{path}: its metadata says that {INPUT} of {endpoint} is {expected}. "
            f"Received from the graph: {inputs.get(INPUT) if len(inputs) == 1 else inputs}"
        )
    outputs = {OUTPUT: 1, ACTIVATION: 3} if endpoint == LOCALISE else {OUTPUT: 1}
    given = run.structured_outputs
    for name, num_axes in outputs.items():
        spec = given.get(name)
        if spec is None or spec.dtype != tf.float32 or spec.shape.rank != num_axes or spec.shape[0] is not None:
            rule = f"{endpoint} must give {name} as float32 of {num_axes} axes, the first of any length"
            received = ", ".join(f"{other} {_described(has)}" for other, has in sorted(given.items())) or "nothing"
            raise InputError(f"{path}: {rule}. Received from the graph: {received}")
    if endpoint == LOCALISE and not callable(getattr(model, CENTRES, None)):
        raise InputError(f"{path}: has {LOCALISE} but no function {CENTRES}; export it with this version")


def _described(spec: tf.TensorSpec) -> str:
    return f"{tuple(spec.shape) if spec.shape.rank is not None else 'any shape'} {spec.dtype.name}"
