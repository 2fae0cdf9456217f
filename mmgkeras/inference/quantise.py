"""A model in 8-bit integers, in OpenVINO's format, where it is as good as the model.

Owns which patches it is calibrated on and judged by, and how much of the AUC it may lose. The quantisation is NNCF's.
"""

import logging
import shutil
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mmgkeras.errors import InputError, counted, extra_needed
from mmgkeras.evaluation.metrics import auc
from mmgkeras.files import atomic_folder
from mmgkeras.inference.scoring import unseen_patches
from mmgkeras.patches.shards import promote
from mmgkeras.patches.store import PatchStore
from mmgkeras.savedmodel.classifier import Classifier
from mmgkeras.savedmodel.convert import FILES
from mmgkeras.savedmodel.export import check_path
from mmgkeras.savedmodel.metadata import METADATA_FILE
from mmgkeras.savedmodel.openvino_graph import names_of_preparation, simplify
from mmgkeras.schema import CALCIFICATION, UNKNOWN

LARGEST_LOSS: Final = 0.002
"""Of the AUC."""
_NUM_CALIBRATION: Final = 300
_NUM_NEGATIVES: Final = 10_000
"""The most patches without calcification that it is judged by."""
_TISSUE: Final = 0.5
_PART: Final = 8


@dataclass(frozen=True, slots=True)
class Quantised:
    """What a model became, beside what it was: the AUC, and patches a second on this machine.

    Attributes:
        auc, auc_int8: on the same patches.
        num_patches: how many these are.
        speed, speed_int8: patches a second, both by OpenVINO.
    """

    auc: float
    auc_int8: float
    num_patches: int
    speed: float
    speed_int8: float

    def __str__(self) -> str:
        """One line."""
        return (
            f"on {counted(self.num_patches, 'patch')} AUC {self.auc:.4f} in float32 and {self.auc_int8:.4f} in int8; "
            f"{self.speed:.0f} and {self.speed_int8:.0f} patches a second"
        )


def quantise(classifier: Classifier, store: PatchStore, out: Path) -> Quantised:
    """Writes `classify_patches` of a model in int8 into a folder, with its metadata.

    It is calibrated on patches of patients whose patches do not judge it: of the model's training, or of a tenth of the
    patients of a store that the model has not seen. What prepares the pixels stays in float32.

    Raises:
        InputError: if its AUC differs from the model's by over `LARGEST_LOSS`; if the store does not fit the model, or
            has no patches of both labels to judge by; if `out` exists, cannot be written or is not UTF-8, or the extra
            `int8` is not installed.
    """
    check_path(out.absolute())
    with extra_needed("int8", to="convert --int8"):
        import nncf
        import openvino
    nncf.set_log_level(logging.ERROR)
    calibration, judged = _shares(classifier, store)
    labels = store.patches["label"].to_numpy()[judged]
    core = openvino.Core()
    model = simplify(core.read_model(classifier.path))
    pixel_type = classifier.metadata.pixel_type
    with redirect_stdout(sys.stderr):  # for its progress bar
        quantised = nncf.quantize(
            model,
            nncf.Dataset([_gather(store, calibration[[index]], pixel_type) for index in range(len(calibration))]),
            subset_size=len(calibration),
            ignored_scope=nncf.IgnoredScope(names=names_of_preparation(model), validate=False),
        )
    (scores, speed), (scores_int8, speed_int8) = (
        _run(
            core.compile_model(one, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT"}),
            store,
            judged,
            pixel_type,
        )
        for one in (model, quantised)
    )
    was, became = auc(labels, scores), auc(labels, scores_int8)
    assert was is not None
    assert became is not None
    found = Quantised(was, became, len(judged), speed, speed_int8)
    if not abs(found.auc_int8 - found.auc) <= LARGEST_LOSS:
        raise InputError(
            f"{classifier.path}: its AUC may change by {LARGEST_LOSS:g}; nothing is written. Received: {found}"
        )
    with atomic_folder(out) as folder:
        openvino.save_model(quantised, folder / FILES["openvino"], compress_to_fp16=False)
        shutil.copy(classifier.path / METADATA_FILE, folder / METADATA_FILE.name)
    return found


def _shares(classifier: Classifier, store: PatchStore) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the patches for calibration, and for judgement; no patient is in both."""
    patches, generator = store.patches, np.random.default_rng(0)
    judged = unseen_patches(classifier, store)
    calibration = np.setdiff1d(np.arange(len(patches)), judged)
    if len(calibration) == 0:
        patients = generator.permutation(np.unique(patches["patient_id"].to_numpy(dtype=str)))
        is_chosen = patches["patient_id"].isin(patients[: -(-len(patients) // 10)]).to_numpy()
        calibration, judged = np.flatnonzero(is_chosen), np.flatnonzero(~is_chosen)
    tissue, labels = patches["tissue"].to_numpy(), patches["label"].to_numpy()
    on_breast = calibration[tissue[calibration] >= _TISSUE]
    calibration = generator.permutation(on_breast if len(on_breast) else calibration)[:_NUM_CALIBRATION]
    judged = judged[labels[judged] != UNKNOWN]
    negatives = generator.permutation(judged[labels[judged] != CALCIFICATION])[:_NUM_NEGATIVES]
    judged = np.sort(np.concatenate([judged[labels[judged] == CALCIFICATION], negatives]))
    if not 0 < len(negatives) < len(judged):
        raise InputError(f"{store.path}: needs patches with and without calcification that the model has not seen")
    return calibration, judged


def _gather(store: PatchStore, rows: NDArray[np.int64], pixel_type: str) -> Any:
    raw = store.gather(rows)
    return promote(raw) if pixel_type == "uint16" else raw


def _run(
    compiled: Any, store: PatchStore, rows: NDArray[np.int64], pixel_type: str
) -> tuple[NDArray[np.float32], float]:
    """(n,) the probabilities of patches, and how many of them a second."""
    import openvino

    queue = openvino.AsyncInferQueue(compiled)
    scores = np.zeros(len(rows), np.float32)

    def keep(request: Any, place: slice) -> None:
        scores[place] = request.get_output_tensor(0).data

    queue.set_callback(keep)
    start = time.perf_counter()
    for first in range(0, len(rows), _PART):
        place = slice(first, min(first + _PART, len(rows)))
        queue.start_async([_gather(store, rows[place], pixel_type)], place)
    queue.wait_all()
    return scores, len(rows) / (time.perf_counter() - start)
