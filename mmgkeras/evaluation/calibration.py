"""Whether a probability is one: how often patches of a given score are calcified, before and after correction.

Owns the shift of prevalence, the recalibration by slope and intercept, and their measures. Takes predictions alone. The
paper's own decision, 0.5 of the uncorrected score, is not touched by any of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, special

from mmgkeras.evaluation.bootstrap import resample_patients
from mmgkeras.evaluation.interval import Interval
from mmgkeras.evaluation.operating_point import FittedOn, fitting_sets
from mmgkeras.schema import CALCIFICATION, UNKNOWN

AS_TRAINED: Final = "as trained"
SHIFTED: Final = "shifted to the field's prevalence"
RECALIBRATED: Final = "recalibrated"
STATES: Final = (AS_TRAINED, SHIFTED, RECALIBRATED)
NUM_BINS: Final = 10
"""Of as many patches each, in the curve and in the expected calibration error; fewer where probabilities are equal."""
_CLIP: Final = 1e-7
"""A float32 softmax gives exactly 0 or 1 beyond this, whose logits are not finite."""
_MAX_STEPS: Final = 100
_TOLERANCE: Final = 1e-10

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """The patches of one bin: their mean probability, and what part of them is calcified, with bounds over patients."""

    mean_predicted: float
    observed: Interval
    num_patches: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How well probabilities agree with labels.

    Attributes:
        brier: mean squared difference of probability and label; 0 is best.
        ece: expected calibration error, the mean distance of the curve from the diagonal weighted by patches.
        in_the_large: the intercept of a logistic regression of the label on the logit with its slope held at 1; 0 is
            best, above 0 the probabilities are too low on the whole. None without both labels.
        slope, intercept: of the logistic regression of the label on the logit; 1 and 0 are best, a slope below 1 means
            scores that are too extreme. None where they have no finite value.
        mean_predicted, observed: over all patches, the mean probability and the part that is calcified.
        curve: the occupied bins, rising.
    """

    brier: float
    ece: float
    in_the_large: float | None
    slope: float | None
    intercept: float | None
    mean_predicted: float
    observed: float
    curve: tuple[CurvePoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalibration:
    """The correction of one fold's model: probability to shifted to recalibrated.

    Attributes:
        trained_prevalence: part of positives among what the model was trained on, augmentation counted.
        field_prevalence: part of positives among the patches of the patients fitted on, but for the negatives of a
            kind that the training leaves out.
        intercept, slope: of the shifted logits; None where they have no finite value.
    """

    trained_prevalence: float
    field_prevalence: float
    intercept: float | None
    slope: float | None

    def shifted(self, probability: Floats) -> Floats:
        """(N,) probabilities at the field's prevalence."""
        return shift_prevalence(probability, trained=self.trained_prevalence, field=self.field_prevalence)

    def recalibrated(self, probability: Floats) -> Floats | None:
        """(N,) probabilities by slope and intercept after the shift; None without a slope above 0."""
        if self.slope is None or self.intercept is None or self.slope <= 0:
            return None
        return np.asarray(special.expit(self.intercept + self.slope * logit(self.shifted(probability))))


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationReport:
    """The calibration of the test patches of all folds together, each corrected by its own fold's correction.

    Attributes:
        states: by the names in `STATES`; those that cannot be had are missing.
        folds: the correction of each fold.
        fitted_on: what the corrections were fitted on; None where nothing was.
        reason: why a state is missing; empty where none is.
    """

    states: Mapping[str, Calibration]
    folds: Mapping[int, Recalibration]
    fitted_on: FittedOn | None
    reason: str


def calibrate(
    predictions: pd.DataFrame,
    *,
    validation: pd.DataFrame | None,
    trained_prevalence: Mapping[int, float],
    min_negative_tissue: float = 0.0,
    min_tissue: float = 0.0,
    num_resamples: int = 2000,
) -> CalibrationReport:
    """The calibration of predictions as they are, at the field's prevalence, and recalibrated; cross-fitted.

    Logits are first moved from the prevalence of the training epoch to that of the field, then corrected by slope and
    intercept. Both are fitted, for each fold, on the patients held out of its training where there are such, else on
    the out-of-fold predictions of the other folds: see `fitting_sets`. Patches of unknown label count nowhere.

    Args:
        predictions: of all patches of the test subsets, with the columns of predictions.csv.
        validation: of all patches of the held-out patients; None without.
        trained_prevalence: part of positives in an epoch of each fold, augmentation counted, about 0.48 in the paper.
        min_negative_tissue: the training left out negatives with less (`augmentation.min_negative_tissue`). They are no
            part of its prevalence, and so none of the field's that it is shifted to.
        min_tissue: slope, intercept and measures are of the patches of which at least this part is breast. The shift
            is still that of all patches, as the prevalence of the training is: what a patch shows decides whether it
            is selected, so that by Bayes' rule its own probability is the same in the selection.
        num_resamples: sets of patients drawn for the intervals of the curves.

    Raises:
        InputError: if a patient whom a fold tests would be fitted on for it.
        ValueError: if there is no patch of known label, or a fold has no prevalence in (0, 1).
    """
    known = predictions[(predictions["label"] != UNKNOWN) & (predictions["tissue"] >= min_tissue)]
    if known.empty:
        raise ValueError(f"Calibration needs patches of known label. Received: none with {min_tissue:g} of tissue")
    sets = fitting_sets(predictions, validation=validation)
    folds = {
        fold: fit_recalibration(
            part,
            trained_prevalence=trained_prevalence.get(fold, np.nan),
            min_negative_tissue=min_negative_tissue,
            min_tissue=min_tissue,
        )
        for fold, part in sets.by_fold.items()
    }
    parts = [known[known["fold"] == fold] for fold in sorted(known["fold"].unique())]
    measured = partial(_measured, num_resamples=num_resamples)
    states = {AS_TRAINED: measured(parts, [_probabilities(part) for part in parts])}
    if not folds:
        return CalibrationReport(states=states, folds=folds, fitted_on=None, reason=sets.reason)
    pairs = [(folds[int(part["fold"].iloc[0])], part) for part in parts]
    states[SHIFTED] = measured(parts, [one.shifted(_probabilities(part)) for one, part in pairs])
    recalibrated = [values for one, part in pairs if (values := one.recalibrated(_probabilities(part))) is not None]
    if len(recalibrated) == len(parts):
        states[RECALIBRATED] = measured(parts, recalibrated)
    return CalibrationReport(states=states, folds=folds, fitted_on=sets.fitted_on, reason=_why_not(folds))


def _why_not(folds: Mapping[int, Recalibration]) -> str:
    """Why the probabilities of a fold cannot be recalibrated; empty where all can."""
    for fold, one in folds.items():
        if one.slope is None:
            return f"no finite slope for fold {fold}: its scores part the labels they are fitted on, or are equal"
        if one.slope <= 0:
            return f"the slope of fold {fold} is {one.slope:.3g}: at or below 0 it would turn the ranking round"
    return ""


def fit_recalibration(
    patches: pd.DataFrame, *, trained_prevalence: float, min_negative_tissue: float = 0.0, min_tissue: float = 0.0
) -> Recalibration:
    """The correction fitted on patches with label (1 or 0, both there), probability and tissue.

    The prevalence is that of all of them but negatives with less than `min_negative_tissue`; slope and intercept are of
    those with at least `min_tissue`.

    Raises:
        ValueError: if the prevalence is not in (0, 1) or a label is missing.
    """
    is_trained_on = (patches["label"] == CALCIFICATION) | (patches["tissue"] >= min_negative_tissue)
    field = float((patches.loc[is_trained_on, "label"] == CALCIFICATION).mean())
    if not 0 < trained_prevalence < 1 or not 0 < field < 1:
        raise ValueError(
            f"Prevalences must lie in (0, 1). Received: {trained_prevalence} trained, {field} in the field"
        )
    selected = patches[patches["tissue"] >= min_tissue]
    is_positive = (selected["label"] == CALCIFICATION).to_numpy()
    shifted = shift_prevalence(_probabilities(selected), trained=trained_prevalence, field=field)
    intercept, slope = fit_line(is_positive, logit(shifted)) or (None, None)
    return Recalibration(
        trained_prevalence=trained_prevalence, field_prevalence=field, intercept=intercept, slope=slope
    )


def shift_prevalence(probability: Floats, *, trained: float, field: float) -> Floats:
    """(N,) the probabilities where positives are `field` of all patches and not `trained` of them (Bayes' rule).

    The odds are multiplied by those of the field over those of the training: logit(p) + logit(field) - logit(trained).
    """
    offset = special.logit(field) - special.logit(trained)
    return np.asarray(special.expit(logit(probability) + offset))


def measure_calibration(
    is_positive: NDArray[np.bool_], probability: Floats, *, patients: NDArray[np.object_], num_resamples: int = 2000
) -> Calibration:
    """The measures of probabilities (N,) for labels (N,) of patches of patients (N,), N at least 1."""
    logits = logit(probability)
    intercept, slope = fit_line(is_positive, logits) or (None, None)
    curve = _curve(is_positive, probability, patients=patients, num_resamples=num_resamples)
    distances = [point.num_patches * abs(point.mean_predicted - point.observed.estimate) for point in curve]
    return Calibration(
        brier=float(np.mean((probability - is_positive) ** 2)),
        ece=float(sum(distances) / len(probability)),
        in_the_large=_fit_intercept(is_positive, logits),
        slope=slope,
        intercept=intercept,
        mean_predicted=float(probability.mean()),
        observed=float(is_positive.mean()),
        curve=curve,
    )


def fit_line(is_positive: NDArray[np.bool_], logits: Floats) -> tuple[float, float] | None:
    """Intercept and slope of the logistic regression of labels (N,) on logits (N,), without penalty.

    None where no finite ones are the most likely: a label is missing, or some value parts the labels.
    """
    positives, negatives = logits[is_positive], logits[~is_positive]
    if not positives.size or not negatives.size:
        return None
    if positives.min() >= negatives.max() or positives.max() <= negatives.min():
        return None
    # Standardised for the sake of the condition: of logits far from 0, intercept and slope are nearly collinear.
    centre, scale = logits.mean(), logits.std()
    intercept, slope = _most_likely_line(is_positive.astype(np.float64), (logits - centre) / scale)
    return float(intercept - slope * centre / scale), float(slope / scale)


def _most_likely_line(labels: Floats, values: Floats) -> Floats:
    """(2,) intercept and slope by Newton's method, labels (N,) not parted by values (N,) of mean 0 and variance 1.

    Written out, for scikit-learn's solver takes tens of times as long, in threads that wait for each other.
    """
    line = np.array([special.logit(labels.mean()), 0.0])
    likelihood = _log_likelihood(line, labels, values)
    for _ in range(_MAX_STEPS):
        fitted = special.expit(line[0] + line[1] * values)
        rest, weight = labels - fitted, fitted * (1 - fitted)
        cross = (weight * values).sum()
        curvature = np.array([[weight.sum(), cross], [cross, (weight * values**2).sum()]])
        step = np.linalg.solve(curvature, [rest.sum(), (rest * values).sum()])
        # The likelihood has one maximum; a step too long for it is halved until it climbs.
        while np.abs(step).max() > _TOLERANCE and _log_likelihood(line + step, labels, values) < likelihood:
            step = step / 2
        line = line + step
        likelihood = _log_likelihood(line, labels, values)
        if np.abs(step).max() <= _TOLERANCE:
            break
    return line


def _log_likelihood(line: Floats, labels: Floats, values: Floats) -> float:
    logits = line[0] + line[1] * values
    return float((labels * logits - np.logaddexp(0, logits)).sum())


def logit(probability: Floats) -> Floats:
    """(N,) log of the odds of probabilities (N,), those within 1e-7 of 0 and 1 taken to be that far from them."""
    return np.asarray(special.logit(np.clip(probability, _CLIP, 1 - _CLIP)))


def _probabilities(patches: pd.DataFrame) -> Floats:
    return patches["probability"].to_numpy(dtype=np.float64)


def _measured(parts: list[pd.DataFrame], probabilities: list[Floats], *, num_resamples: int) -> Calibration:
    is_positive = np.concatenate([(part["label"] == CALCIFICATION).to_numpy() for part in parts])
    patients = np.concatenate([part["patient_id"].to_numpy(object) for part in parts])
    return measure_calibration(
        is_positive, np.concatenate(probabilities), patients=patients, num_resamples=num_resamples
    )


def _curve(
    is_positive: NDArray[np.bool_], probability: Floats, *, patients: NDArray[np.object_], num_resamples: int
) -> tuple[CurvePoint, ...]:
    # As in scikit-learn, a probability on an edge falls into the bin below, and empty bins are left out.
    edges = np.percentile(probability, np.linspace(0, 100, NUM_BINS + 1))
    _, bins, counts = np.unique(np.searchsorted(edges[1:-1], probability), return_inverse=True, return_counts=True)
    predicted = np.bincount(bins, weights=probability) / counts
    resamples = resample_patients(pd.DataFrame({"patient_id": patients}), num_resamples=num_resamples)
    places = resamples.places(patients.tolist())
    rates = [resamples.rate(is_positive[bins == number], places[bins == number]) for number in range(len(counts))]
    return tuple(
        CurvePoint(mean_predicted=float(x), observed=rate, num_patches=int(count))
        for x, rate, count in zip(predicted, rates, counts, strict=True)
        if rate is not None
    )


def _fit_intercept(is_positive: NDArray[np.bool_], logits: Floats) -> float | None:
    """What must be added to the logits for the probabilities to sum to the number of positives."""
    num_positives = int(is_positive.sum())
    if num_positives in (0, len(logits)):
        return None
    return float(optimize.brentq(lambda shift: special.expit(logits + shift).sum() - num_positives, -100, 100))
