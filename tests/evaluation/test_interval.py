import numpy as np
import pytest
from scipy.stats import norm

from mmgkeras.evaluation.interval import (
    Difference,
    Interval,
    difference,
    effective_number,
    positive_interval,
    satterthwaite,
    symmetric_interval,
    unit_interval,
)


def test_the_effective_number_falls_as_one_patient_has_more() -> None:
    assert effective_number(np.array([7.0, 7.0, 0.0, 7.0])) == pytest.approx(3)
    # 10^2 over 9^2 + 1^2.
    assert effective_number(np.array([9.0, 1.0])) == pytest.approx(100 / 82)
    assert effective_number(np.array([0.0, 0.0])) == effective_number(np.array([])) == 0


def test_bounds_of_a_metric_are_symmetric_on_the_logit_scale_and_stay_inside() -> None:
    interval = unit_interval(0.5, se=0.1, degrees=np.inf)
    # At 0.5 the logit rises by 4: 1.96 x 0.1 x 4 = 0.784, and 1 / (1 + exp(0.784)) = 0.3135.
    assert (interval.low, interval.high) == (pytest.approx(0.3135, abs=1e-4), pytest.approx(0.6865, abs=1e-4))
    near_one = unit_interval(0.99, se=0.01, degrees=10)
    assert near_one.low is not None
    assert near_one.high is not None
    assert 0 < near_one.low < 0.99 < near_one.high < 1
    assert 0.99 - near_one.low > near_one.high - 0.99


def test_fewer_degrees_of_freedom_widen() -> None:
    def width(interval: Interval) -> float:
        assert interval.low is not None
        assert interval.high is not None
        return interval.high - interval.low

    base = width(unit_interval(0.8, se=0.05, degrees=50))
    assert width(unit_interval(0.8, se=0.05, degrees=3)) > base


@pytest.mark.parametrize(
    ("estimate", "se", "degrees"), [(1.0, 0.1, 9), (0.0, 0.1, 9), (0.5, 0.0, 9), (0.5, np.inf, 9), (0.5, 0.1, 0)]
)
def test_what_nothing_is_known_of_has_no_bounds(estimate: float, se: float, degrees: float) -> None:
    assert unit_interval(estimate, se=se, degrees=degrees) == Interval(estimate)


def test_a_metric_of_any_size_has_symmetric_bounds() -> None:
    interval = symmetric_interval(-3.0, se=2.0, degrees=np.inf)
    assert (interval.low, interval.high) == (pytest.approx(-3 - 3.92, abs=1e-3), pytest.approx(-3 + 3.92, abs=1e-3))
    assert symmetric_interval(-3.0, se=np.inf, degrees=9) == Interval(-3.0)


def test_a_metric_without_upper_limit_never_reaches_below_zero() -> None:
    interval = positive_interval(2.0, se=2.0, degrees=np.inf)
    assert (interval.low, interval.high) == (pytest.approx(2 * np.exp(-1.96), rel=1e-3), pytest.approx(14.2, abs=0.01))
    for estimate, se in ((0.0, 0.1), (2.0, 0.0), (2.0, np.inf), (2.0, 4.0)):
        assert positive_interval(estimate, se=se, degrees=9) == Interval(estimate)


def test_a_difference_is_tested_against_zero() -> None:
    found = difference(0.03, se=0.015)
    assert (found.statistic, found.p) == (pytest.approx(2.0), pytest.approx(2 * norm.sf(2.0)))
    # The two-sided p of t = 2 with 5 degrees of freedom.
    assert difference(0.03, se=0.015, degrees=5).p == pytest.approx(0.1019, abs=1e-4)


def test_a_bound_touches_zero_where_p_is_one_less_the_confidence() -> None:
    found = difference(0.03, se=0.03 / norm.ppf(0.975))
    assert found.interval.low == pytest.approx(0, abs=1e-12)
    assert found.p == pytest.approx(0.05)


def test_nothing_that_differs_has_a_p_of_one_and_what_cannot_be_tested_none() -> None:
    assert difference(0.0, se=0.0).p == 1.0
    assert difference(0.1, se=0.0) == Difference(Interval(0.1), se=None, statistic=None, p=None)
    assert difference(0.1, se=np.inf).p is None


def test_bounds_that_reach_over_nearly_everything_are_not_given() -> None:
    # At 0.5 a reach of 3 on the logit scale is a standard error of 0.75 / 1.96.
    assert unit_interval(0.5, se=0.382, degrees=np.inf).low is not None
    assert unit_interval(0.5, se=0.383, degrees=np.inf) == Interval(0.5)


def test_degrees_of_freedom_are_the_number_of_equal_contributions_and_those_of_unequal_ones_fewer() -> None:
    random = np.random.default_rng(0)
    normal = np.mean([satterthwaite(random.normal(size=200)) for _ in range(50)])
    assert normal == pytest.approx(199, rel=0.06)
    # Two of 4 and 98 of 1: 3 x (32 + 98)^2 / (512 + 98), less one.
    assert satterthwaite(np.array([4.0, 4, *[1] * 98])) == pytest.approx(3 * 130**2 / 610 - 1)
    assert satterthwaite(np.array([1.0, -1]), num_means=5) == 1
    assert satterthwaite(np.zeros(3)) == 1
