"""Whether a model takes darkness for calcification: its scores of changed patches that hold none.

The paper's augmentation darkens and turns positives alone (3.2 and Table 6), so that in training a dark or turned patch
is a positive one. A model that learned this scores a patch without calcification higher once it is darkened or turned.

Owns the changes and which patches are changed.
"""

from collections.abc import Callable, Mapping
from typing import Final, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmgkeras.evaluation.summary import TISSUE_FRACTION
from mmgkeras.inference.scoring import check_fits
from mmgkeras.patches.store import PatchStore
from mmgkeras.pipeline.batches import even_batches
from mmgkeras.progress import Track, untracked
from mmgkeras.savedmodel.classifier import Classifier
from mmgkeras.schema import NO_CALCIFICATION, Pixels
from mmgkeras.study.run_files import SHORTCUT

_Change = Callable[[Pixels], Pixels]
_CHUNK: Final = 256
"""Patches that are changed and scored at a time."""


def _times(factor: float) -> _Change:
    return lambda patches: cast(Pixels, np.rint(patches * np.float32(factor)).astype(patches.dtype))


def _turned(times: int) -> _Change:
    return lambda patches: cast(Pixels, np.ascontiguousarray(np.rot90(patches, times, axes=(1, 2))))


CHANGES: Final[Mapping[str, _Change]] = {
    "as_is": lambda patches: patches,
    "x0.5": _times(0.5),
    "x0.75": _times(0.75),
    "rot90": _turned(1),
    "rot180": _turned(2),
    "rot270": _turned(3),
    "flipped": lambda patches: cast(Pixels, np.ascontiguousarray(patches[:, :, ::-1])),
}
"""By name, of patches (n, P, P, 1) of either pixel type. Turned anticlockwise; flipped left to right, the one change
with which the paper trains negatives. Darkened pixels are rounded to their type, for a model takes no others; those of
training are not rounded.
"""


def shortcut_scores(
    classifier: Classifier,
    store: PatchStore,
    indices: NDArray[np.int64],
    *,
    max_patches: int = 2000,
    seed: int = 0,
    track: Track = untracked,
) -> pd.DataFrame:
    """The model's probability of tissue patches without calcification, as they are and changed in each way.

    Args:
        classifier: the model.
        store: where the patches are.
        indices: (n,) rows of the store's patches; those labelled 0 with tissue on at least `TISSUE_FRACTION` take part.
        max_patches: where there are more, so many are drawn.
        seed: of the draw.
        track: called with the parts of the work.

    Returns:
        A frame of the columns of shortcut.csv: for every change, in the order of `CHANGES`, the same patches in the
        same order. It is empty if no patch takes part.

    Raises:
        InputError: if the model cannot take the store's patches.
    """
    check_fits(classifier, store)
    patches = store.patches.iloc[indices]
    is_wanted = (patches["label"] == NO_CALCIFICATION) & (patches["tissue"] >= TISSUE_FRACTION)
    chosen = np.asarray(indices)[is_wanted.to_numpy()]
    if len(chosen) == 0:
        return pd.DataFrame(columns=list(SHORTCUT))
    if len(chosen) > max_patches:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, max_patches, replace=False))
    scores: dict[str, list[NDArray[np.float32]]] = {name: [] for name in CHANGES}
    for part in track(even_batches(chosen, batch_size=_CHUNK), "change negatives"):
        pixels = store.gather(part)
        for name, change in CHANGES.items():
            scores[name].append(classifier.classify(change(pixels)))
    place = store.patches.iloc[chosen]
    frames = [
        place.assign(change=name, probability=np.concatenate(part).astype(np.float64)) for name, part in scores.items()
    ]
    return pd.concat(frames, ignore_index=True)[list(SHORTCUT)]
