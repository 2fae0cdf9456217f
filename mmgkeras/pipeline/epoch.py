"""Which patch, under which operation, stands where in an epoch: the paper's balanced set by numbering alone.

Every (patch, operation) pair of the augmented training set (Sakaida et al. 2023, 3.2 and Table 6) has a virtual id. An
epoch is a permutation of the ids that is computed, not stored, and cut to whole batches. Reads no pixels.

What an id stands for follows from the id alone, and the ids of a step from the step's number: no state is kept.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from mmgkeras.errors import InputError
from mmgkeras.schema import CALCIFICATION, NO_CALCIFICATION


@dataclass(frozen=True, eq=False)
class EpochPlan:
    """The augmented training set and how it is drawn.

    Ids below `num_positives * num_positive_ops` are positives: id // num_positive_ops is the place in `positives` and
    the rest is the operation. The ids after them are negatives, `len(negative_ops)` of each in the paper's scheme.

    In the symmetric scheme a negative takes part as often, but with operations of the positives' set. Its ids are
    num_positive_ops for each time it takes part, one an operation, of which `ids` draws one an epoch. The draw is a
    permutation of all negatives' turns, modulo the operations: each operation as often as any other, but for one.

    Attributes:
        positives: (P,) int64, places in the store of the patches with calcification.
        negatives: (N,) int64, places in the store of those without.
        num_positive_ops: operations applied to each positive, ids 0 to this less one; 24 in the paper.
        negative_ops: ids of the operations applied to each negative; two in the paper.
        batch_size: samples per step, of all devices together.
        seed: of the permutations.
        num_drawn_negatives: so many of the negatives take part in an epoch, others in the next; None for all, as in
            the paper.
        scheme: "paper", or "symmetric" to draw the operations of the negatives.
        shuffle: "every_epoch", or "once" for the order of the first epoch in every one. What is drawn for an epoch,
            negatives or their operations, is drawn anew in each all the same.
    """

    positives: NDArray[np.int64]
    negatives: NDArray[np.int64]
    num_positive_ops: int
    negative_ops: tuple[int, ...]
    batch_size: int
    seed: int
    num_drawn_negatives: int | None = None
    scheme: Literal["paper", "symmetric"] = "paper"
    shuffle: Literal["every_epoch", "once"] = "every_epoch"

    def __post_init__(self) -> None:
        """Refuses a set that lacks a class or does not fill one batch.

        Raises:
            InputError: if so; the message is one line.
        """
        if not len(self.positives) or not len(self.negatives):
            raise InputError(
                f"training needs patches with and without calcification. Received: {len(self.positives)} with, "
                f"{len(self.negatives)} without"
            )
        if self.steps_per_epoch < 1:
            raise InputError(
                f"train.batch_size: an epoch must fill at least one batch. Received: {self.batch_size}; "
                f"allowed: up to {self.num_samples}, the size of the augmented training set"
            )

    @property
    def num_positive_samples(self) -> int:
        """Positives in an epoch, each under every operation (Table 6)."""
        return len(self.positives) * self.num_positive_ops

    @property
    def num_negative_samples(self) -> int:
        """Negatives in an epoch before it is cut to whole batches (Table 6)."""
        return self._num_negatives * len(self.negative_ops)

    @property
    def num_samples(self) -> int:
        """The size of an epoch before it is cut to whole batches."""
        return self.num_positive_samples + self.num_negative_samples

    @property
    def _num_negatives(self) -> int:
        """Negatives in an epoch."""
        drawn = self.num_drawn_negatives
        return len(self.negatives) if drawn is None else min(max(drawn, 1), len(self.negatives))

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch; the rest of its permutation is left out, another rest in each epoch."""
        return self.num_samples // self.batch_size

    def locate(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
        """What the virtual ids (n,) stand for.

        Returns:
            (n,) int64 places in the store, (n,) int32 operation ids, (n,) int32 labels, 1 calcification and 0 none.
        """
        num_positive_ids = self.num_positive_samples
        is_positive = ids < num_positive_ids
        positive, positive_op = np.divmod(np.where(is_positive, ids, 0), self.num_positive_ops)
        rest = np.where(is_positive, 0, ids - num_positive_ids)
        if self.scheme == "paper":
            negative, negative_op = np.divmod(rest, len(self.negative_ops))
            negative_op = np.asarray(self.negative_ops)[negative_op]
        else:
            turn, negative_op = np.divmod(rest, self.num_positive_ops)
            negative = turn // len(self.negative_ops)
        patches = np.where(is_positive, self.positives[positive], self.negatives[negative])
        ops = np.where(is_positive, positive_op, negative_op)
        labels = np.where(is_positive, CALCIFICATION, NO_CALCIFICATION)
        return patches, ops.astype(np.int32), labels.astype(np.int32)

    def ids(self, piece: Any, *, pieces_per_batch: int = 1) -> Any:
        """The virtual ids of one piece of the endless stream, as a tensor, also inside a graph.

        Args:
            piece: () int64, counted from 0 at the first step of the first epoch; batch s is made of the pieces
                s * pieces_per_batch and those that follow, in this order.
            pieces_per_batch: must divide `batch_size`.

        Returns:
            (batch_size / pieces_per_batch,) int64.
        """
        piece_size = self.batch_size // pieces_per_batch
        pieces_per_epoch = self.steps_per_epoch * pieces_per_batch
        piece = tf.cast(piece, tf.int64)
        positions = piece % pieces_per_epoch * piece_size + tf.range(piece_size, dtype=tf.int64)
        epoch = piece // pieces_per_epoch
        seed = tf.constant(self.seed, tf.int64)
        order = epoch if self.shuffle == "every_epoch" else tf.zeros_like(epoch)
        ids = shuffled(positions, seed=tf.stack([seed, order]), size=self.num_samples)
        first, num_turns = self.num_positive_samples, len(self.negative_ops)
        turn = tf.maximum(ids - first, 0)
        negative = turn
        if self._num_negatives < len(self.negatives):
            # A second permutation, of another seed, says which negatives this epoch draws.
            drawn = shuffled(turn // num_turns, seed=tf.stack([seed, -1 - epoch]), size=len(self.negatives))
            negative = drawn * num_turns + turn % num_turns
        if self.scheme == "symmetric":
            # A third, of a seed that is never another's, says with which operation.
            op = (
                shuffled(turn, seed=tf.stack([-1 - seed, epoch]), size=self.num_negative_samples)
                % self.num_positive_ops
            )
            negative = negative * self.num_positive_ops + op
        return tf.where(ids < first, ids, first + negative)


def shuffled(positions: Any, *, seed: Any, size: int) -> Any:
    """Where positions (n,) int64 of 0 to size - 1 go in the permutation that belongs to `seed` (2,), as (n,) int64."""
    return tf.random.experimental.index_shuffle(positions, seed=seed, max_index=tf.constant(size - 1, tf.int64))
