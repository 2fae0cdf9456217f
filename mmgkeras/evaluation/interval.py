"""A metric with its uncertainty, and how a standard error becomes bounds."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, stdtr, stdtrit

LEVEL: Final = 0.05
"""Of a two-sided p below this, two metrics are said to differ."""
_UPPER: Final = (1 + 0.95) / 2
"""The quantile of the upper bound of a 95 % interval."""
MAX_LOGIT_REACH: Final = 3.0
"""An interval that reaches further on the logit scale, from 0.5 to below 0.05 and above 0.95, says nothing."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the bounds of its 95 % confidence interval.

    Attributes:
        estimate: the metric of the data themselves.
        low, high: the bounds; None where they cannot be had, for instance from a single patient.
    """

    estimate: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """How much one metric is above another, tested against 0.

    Attributes:
        interval: the difference and its bounds.
        se: its standard error; None where it cannot be had, as `statistic` and `p` then are.
        statistic: the difference over its standard error.
        p: two-sided, of this one test.
        p_holm: corrected for the other tests of the same question; None where none was made.
    """

    interval: Interval
    se: float | None
    statistic: float | None
    p: float | None
    p_holm: float | None = None

    @property
    def is_different(self) -> bool:
        """Whether it is told from 0 at LEVEL."""
        return self.p is not None and self.p < LEVEL


def effective_number(shares: NDArray[np.floating]) -> float:
    """How many patients of equal weight would tell as much as these shares (I,) do, at least 0 (Kish 1965).

    It is their number where all are equal, and about 1 where one patient has nearly everything.
    """
    total = float(shares.sum())
    return total**2 / float((shares**2).sum()) if total > 0 else 0.0


def stretch(shares: NDArray[np.floating], *, num_folds: int = 1) -> float:
    """What the deviations of resamples are multiplied by; NaN if fewer than two patients have a share (I,).

    Patients are drawn from those of the sample, whose metric lies nearer to each of them than the truth does. Of the
    variance that loses 1 / n, n being their effective number; and in one set of several folds, each of which keeps its
    number of patients, one patient more for each further fold.
    """
    count = np.count_nonzero(shares)
    if count < 2:
        return np.nan
    kept = 1 - 1 / effective_number(shares) - (num_folds - 1) / count
    return float(1 / np.sqrt(kept)) if kept > 0 else np.nan


def satterthwaite(contributions: NDArray[np.floating], *, num_means: int = 1) -> float:
    """Degrees of freedom of a variance that is the sum of the squares of contributions (I,), at least 1.

    Satterthwaite's for independent normal contributions of mean 0 and unequal variances v: (sum v)^2 / sum v^2, the
    expected fourth power being 3 v^2; less one for each mean that they were taken from. It is their number less
    `num_means` where all are equally large.
    """
    squares = contributions**2
    total = float((squares**2).sum())
    return max(1.0, 3 * float(squares.sum()) ** 2 / total - num_means) if total > 0 else 1.0


def unit_interval(estimate: float, *, se: float, degrees: float) -> Interval:
    """The interval of a metric from 0 to 1: symmetric on the logit scale, so that it stays inside and leans inwards.

    Args:
        estimate: the metric. At 0 or 1 itself there are no bounds: nothing in the data says how far it could be off.
        se: its standard error, on its own scale; none (0) leaves no bounds either.
        degrees: of freedom of the t distribution, about the number of patients behind the standard error less one;
            below 1 there are no bounds. Nor are there where they reach further than MAX_LOGIT_REACH.
    """
    if not 0 < estimate < 1 or not 0 < se < np.inf or degrees < 1:
        return Interval(estimate)
    centre = logit(estimate)
    reach = stdtrit(degrees, _UPPER) * se / (estimate * (1 - estimate))
    if reach > MAX_LOGIT_REACH:
        return Interval(estimate)
    return Interval(estimate, float(expit(centre - reach)), float(expit(centre + reach)))


def positive_interval(estimate: float, *, se: float, degrees: float) -> Interval:
    """The interval of a metric of 0 or more: symmetric on the logarithmic scale; arguments as for `unit_interval`.

    There are no bounds at 0, nor where they reach further than MAX_LOGIT_REACH on that scale.
    """
    if estimate <= 0 or not 0 < se < np.inf or degrees < 1:
        return Interval(estimate)
    reach = float(stdtrit(degrees, _UPPER)) * se / estimate
    if reach > MAX_LOGIT_REACH:
        return Interval(estimate)
    return Interval(estimate, estimate * float(np.exp(-reach)), estimate * float(np.exp(reach)))


def symmetric_interval(estimate: float, *, se: float, degrees: float) -> Interval:
    """The interval of a metric of any size; arguments as for `unit_interval`."""
    if not 0 < se < np.inf or degrees < 1:
        return Interval(estimate)
    reach = float(stdtrit(degrees, _UPPER)) * se
    return Interval(estimate, estimate - reach, estimate + reach)


def difference(estimate: float, *, se: float, degrees: float = np.inf) -> Difference:
    """A difference tested against 0, with symmetric bounds; arguments as for `unit_interval`.

    Where nothing differs and nothing varies, p is 1.
    """
    if se == 0 and estimate == 0:
        return Difference(Interval(estimate, estimate, estimate), se=se, statistic=0.0, p=1.0)
    interval = symmetric_interval(estimate, se=se, degrees=degrees)
    if interval.low is None:
        return Difference(interval, se=None, statistic=None, p=None)
    statistic = estimate / se
    return Difference(interval, se=se, statistic=statistic, p=float(2 * stdtr(degrees, -abs(statistic))))
