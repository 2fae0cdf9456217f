"""The endpoint `detect`: encoded mammograms in, the probability of each of their patches out, all in one graph.

Owns its inputs and outputs, and which patches go through the network. Decoding is `graph_decoding`'s, division and
resampling are `graph_division`'s; the network is the endpoint of an exported model.
"""

from collections.abc import Callable
from typing import Final

import tensorflow as tf

from mmgkeras.images.resampling import SAME_SPACING
from mmgkeras.images.samples import MAX_PIXELS
from mmgkeras.models.localisation import ACTIVATION
from mmgkeras.savedmodel.classifier import BATCH_SIZE, Classifier
from mmgkeras.savedmodel.export import CENTRES, ENDPOINT, INPUT, LOCALISE, OUTPUT
from mmgkeras.savedmodel.graph_decoding import decode_gray, image_size, required
from mmgkeras.savedmodel.graph_division import GraphGrid, resample_to, resampled_size
from mmgkeras.schema import SIDES

DETECT: Final = "detect"
IMAGE, CHEST_WALL, SPACING = "image_bytes", "chest_wall", "spacing_mm"
"""The inputs of `detect`."""
UNKNOWN_SPACING: Final = 0.0
"""A pixel size that is not known, in and out; it is what `spacing_mm` is where a gRPC request leaves it out."""
NO_PATCH: Final = -1.0
"""The probability where an image has no patch and another one of the request has."""
_PROMOTION: Final = 257


def detect_endpoint(
    classifier: Classifier, *, name: str, version: str, blank_max: int = 0
) -> tf.types.experimental.PolymorphicFunction:
    """The function behind `detect`.

    It takes `image_bytes` (B,) string, encoded images; `chest_wall` (B,) string, "left" or "right"; `spacing_mm` (B,)
    float64, the edge of a pixel in mm, 0 for unknown. For each it gives `probability` (B, R, C) float32, that of
    `Classifier.score`, -1 where an image has fewer patches than another; `score` (B,), the highest; `decision` (B,)
    bool, whether it reaches `threshold` (B,); `grid` (B, 8) int32, `graph_division.FIELDS` of the image as it was
    scored; `spacing_mm` and `model_spacing_mm` (B,) of the image as it was scored and of the model; `model_name`,
    `model_version` and `store_checksum` (B,) string; of a model that can localise also `activation` (B, R, C, h, w) and
    `cell_centres_px` (B, h).

    An image whose pixel size is known is resampled to that of the model, if this is known and differs. Images are
    scored one after another, in batches of `BATCH_SIZE` patches. Of the patches without a pixel above `blank_max` one
    goes through the network and stands for the others.

    Args:
        classifier: an exported model.
        name: of the servable, told in the answer.
        version: told in the answer.
        blank_max: in pixels of the model's type. Above 0 the answer is not that of `Classifier.score`.
    """
    metadata = classifier.metadata
    score = _scorer(classifier, blank_max=blank_max)
    outputs = {OUTPUT: tf.TensorSpec((None, None), tf.float32)}
    if classifier.can_localise:
        cells = classifier.cell_centres_px
        outputs[ACTIVATION] = tf.TensorSpec((None, None, len(cells), len(cells)), tf.float32)

    def detect(
        image_bytes: tf.Tensor,
        chest_wall: tf.Tensor,
        spacing_mm: tf.Tensor = tf.constant([UNKNOWN_SPACING], tf.float64),  # noqa: B008 - SignatureDef.defaults
    ) -> dict[str, tf.Tensor]:
        image_bytes, chest_wall, spacing_mm = _checked(image_bytes, chest_wall, spacing_mm)
        size = tf.map_fn(image_size, image_bytes, fn_output_signature=tf.TensorSpec((2,), tf.int32))
        factor = _factors(spacing_mm, own_mm=metadata.spacing_mm)
        seen = _seen_sizes(size, factor)
        grid = GraphGrid(seen[:, 0], seen[:, 1], metadata.patch_px, metadata.stride_px, chest_wall == "left")
        shape = tf.stack([tf.reduce_max(grid.rows), tf.reduce_max(grid.cols)])
        answers = tf.map_fn(
            lambda image: score(*image, shape=shape),
            (image_bytes, size, seen, factor, chest_wall == "left"),
            fn_output_signature=outputs,
            parallel_iterations=1,
        )
        num_images = tf.shape(image_bytes)[0]
        highest = tf.reduce_max(answers[OUTPUT], axis=(1, 2))
        own_mm = tf.constant(metadata.spacing_mm or UNKNOWN_SPACING, tf.float64)
        facts = {
            "threshold": tf.constant(metadata.threshold, tf.float64),
            "model_spacing_mm": own_mm,
            "model_name": tf.constant(name),
            "model_version": tf.constant(version),
            "store_checksum": tf.constant(metadata.store_checksum),
        }
        if classifier.can_localise:
            answers[CENTRES] = tf.tile(tf.constant(cells)[None], [num_images, 1])
        return {
            **answers,
            **{fact: tf.repeat(value[None], num_images) for fact, value in facts.items()},
            "score": highest,
            "decision": highest >= metadata.threshold,
            "grid": grid.fields,
            SPACING: tf.where(factor == 1, spacing_mm, own_mm),
        }

    specs = [
        tf.TensorSpec((None,), tf.string, name=IMAGE),
        tf.TensorSpec((None,), tf.string, name=CHEST_WALL),
        tf.TensorSpec((None,), tf.float64, name=SPACING),
    ]
    return tf.function(detect, input_signature=specs, autograph=False)


def _checked(
    image_bytes: tf.Tensor, chest_wall: tf.Tensor, spacing_mm: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The inputs, once they are as many as images and say what they may; one `spacing_mm` may stand for all."""
    num_images = tf.shape(image_bytes)[0]
    num_spacings = tf.shape(spacing_mm)[0]
    num_right = (tf.shape(chest_wall)[0] == num_images) & ((num_spacings == num_images) | (num_spacings == 1))
    is_side = tf.reduce_any(chest_wall[:, None] == tf.constant(SIDES), axis=1)
    is_spacing = (spacing_mm >= 0) & (spacing_mm <= 100)  # NaN is neither
    rules = (
        (num_images > 0, "image_bytes must hold at least one image", ()),
        (num_right, f"{CHEST_WALL} and {SPACING} must be as many as images", ()),
        (tf.reduce_all(is_side), f"{CHEST_WALL} must be left or right. Received:", (chest_wall,)),
        (tf.reduce_all(is_spacing), f"{SPACING} must be 0 (unknown) to 100 mm. Received:", (spacing_mm,)),
    )
    for condition, rule, received in rules:
        with required(condition, rule, *received):
            image_bytes, chest_wall = tf.identity(image_bytes), tf.identity(chest_wall)
            spacing_mm = tf.identity(spacing_mm)
    return image_bytes, chest_wall, tf.broadcast_to(spacing_mm, [num_images])


def _factors(spacing_mm: tf.Tensor, *, own_mm: float | None) -> tf.Tensor:
    """(B,) float64 times as many pixels a length that each image gets; 1 for one that is taken as it is."""
    if own_mm is None:
        return tf.ones_like(spacing_mm)
    factor = spacing_mm / own_mm
    is_taken = (spacing_mm == UNKNOWN_SPACING) | (tf.abs(factor - 1) <= SAME_SPACING)
    return tf.where(is_taken, tf.ones_like(factor), factor)


def _seen_sizes(size: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """(B, 2) int32 the sizes (B, 2) after resampling, which must be allowed too."""
    exact = tf.reduce_prod(tf.cast(size, tf.float64) * factor[:, None], axis=1)
    rule = f"resampled to the pixel size of the model, an image must hold at most {MAX_PIXELS:,} pixels. Received:"
    with required(tf.reduce_all(exact <= MAX_PIXELS), rule, exact):
        return resampled_size(size, factor[:, None])


def _scorer(classifier: Classifier, *, blank_max: int) -> Callable[..., dict[str, tf.Tensor]]:
    """A function of one encoded image, its size and side: the outputs of its patches, padded to a common shape."""
    metadata = classifier.metadata
    is_8_bit = metadata.pixel_type == "uint8"

    def score(
        data: tf.Tensor, size: tf.Tensor, seen: tf.Tensor, factor: tf.Tensor, is_left: tf.Tensor, *, shape: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([size]):  # nothing is decoded before its size is known to be allowed
            gray, is_deep = decode_gray(tf.identity(data))
        rule = "the model takes 8 bits, and does not round 16 to 8. Received: an image of 16 bits"
        with required(tf.logical_not(is_deep & is_8_bit), rule):
            gray = tf.ensure_shape(tf.reshape(gray, size), (None, None))
        gray = tf.cond(factor == 1, lambda: gray, lambda: resample_to(gray, seen, factor=factor))
        promoted = gray * tf.where(is_deep | is_8_bit, tf.constant(1, tf.uint16), tf.constant(_PROMOTION, tf.uint16))
        grid = GraphGrid(seen[0], seen[1], metadata.patch_px, metadata.stride_px, is_left)
        extended = grid.extend(promoted)
        is_blank = tf.reshape(grid.largest(extended) <= blank_max, [-1])
        # The first blank patch stands for all.
        is_scored = ~is_blank | (tf.cumsum(tf.cast(is_blank, tf.int32)) == 1)
        places = tf.cumsum(tf.cast(is_scored, tf.int32)) - 1
        of_blank = tf.reduce_max(tf.where(is_blank & is_scored, places, 0))
        outputs = _run(classifier, grid, extended, numbers=tf.cast(tf.where(is_scored)[:, 0], tf.int32))
        chosen = tf.where(is_blank, of_blank, places)
        return {
            name: _padded(tf.gather(values, chosen), grid, shape, fill=NO_PATCH if name == OUTPUT else 0.0)
            for name, values in outputs.items()
        }

    return score


def _run(classifier: Classifier, grid: GraphGrid, extended: tf.Tensor, *, numbers: tf.Tensor) -> dict[str, tf.Tensor]:
    """What the network says of the patches of these numbers, batch by batch."""
    names = (OUTPUT, ACTIVATION) if classifier.can_localise else (OUTPUT,)
    network = classifier.signature(LOCALISE if classifier.can_localise else ENDPOINT)
    num_batches = -(-tf.shape(numbers)[0] // BATCH_SIZE)

    def step(batch: tf.Tensor, *parts: tf.TensorArray) -> tuple[tf.Tensor | tf.TensorArray, ...]:
        patches = grid.cut(extended, numbers[batch * BATCH_SIZE : (batch + 1) * BATCH_SIZE])
        answer = network(**{INPUT: tf.cast(patches, classifier.metadata.pixel_type)[..., None]})
        return batch + 1, *(part.write(batch, answer[name]) for name, part in zip(names, parts, strict=True))

    shapes = [network.structured_outputs[name].shape for name in names]
    arrays = [tf.TensorArray(tf.float32, num_batches, infer_shape=False, element_shape=shape) for shape in shapes]
    _, *arrays = tf.while_loop(lambda batch, *_: batch < num_batches, step, [0, *arrays], parallel_iterations=1)
    return {name: array.concat() for name, array in zip(names, arrays, strict=True)}


def _padded(values: tf.Tensor, grid: GraphGrid, shape: tf.Tensor, *, fill: float) -> tf.Tensor:
    """(R, C, ...) values (rows * cols, ...) in their places, `fill` beyond them."""
    more = values.shape[1:]
    placed = tf.reshape(values, [grid.rows, grid.cols, *more])
    missing = [[0, shape[0] - grid.rows], [0, shape[1] - grid.cols], *[[0, 0]] * len(more)]
    padded = tf.pad(placed, missing, constant_values=fill)
    return tf.ensure_shape(padded, (None, None, *more))
