"""Intervals: they hold what they should, and tell of questions, not of documents."""

import pytest

from precis.evaluation.bootstrap import mean_interval, ratio_interval, recovery_interval


def test_the_interval_holds_the_recovery_and_narrows_with_more_questions():
    gains, gaps = [1.0, 0.0, 2.0, 1.0], [2.0, 2.0, 2.0, 3.0]
    low, high = recovery_interval([gains], [gaps])
    assert 0 <= low < sum(gains) / sum(gaps) < high <= 1
    more_low, more_high = recovery_interval([gains * 16], [gaps * 16])
    assert more_high - more_low < 0.4 * (high - low)


def test_the_interval_is_that_of_the_normal_distribution_where_there_are_many_questions():
    gains = [0.0, 1.0] * 200  # a share of 400: its standard error is 0.5 / 20
    low, high = recovery_interval([gains], [[1.0] * 400])
    assert (low, high) == pytest.approx((0.5 - 1.96 * 0.025, 0.5 + 1.96 * 0.025), abs=0.005)


def test_questions_that_all_recover_the_same_share_leave_no_doubt():
    assert recovery_interval([[1.0, 3.0]], [[2.0, 6.0]]) == pytest.approx((0.5, 0.5))


def test_questions_are_drawn_within_documents_so_that_unlike_documents_widen_nothing():
    assert recovery_interval([[1.0] * 3, [0.0] * 3], [[1.0] * 3] * 2) == pytest.approx((0.5, 0.5))


def test_there_is_no_interval_where_the_document_may_not_help():
    assert recovery_interval([], []) is None
    assert recovery_interval([[]], [[]]) is None
    assert recovery_interval([[1.0, 1.0]], [[3.0, -3.0]]) is None


def test_a_mean_is_over_documents_and_a_ratio_of_sums_over_questions():
    unlike = [[1.0] * 3, [0.0] * 9]
    assert mean_interval(unlike) == pytest.approx((0.5, 0.5))
    assert ratio_interval(unlike, [[1.0] * 3, [1.0] * 9]) == pytest.approx((0.25, 0.25))


def test_a_ratio_is_bounded_by_questions_that_stay_together():
    right = [[1.0, 0.0] * 50, [1.0, 1.0, 1.0, 0.0] * 25]
    assert ratio_interval(right, right) == pytest.approx((1, 1))
    half = [[value / 2 for value in each] for each in right]
    assert ratio_interval(half, right) == pytest.approx((0.5, 0.5))
    low, high = ratio_interval([each[::-1] for each in right], right)
    assert low < 1 < high


def test_differences_of_the_same_questions_are_bounded_by_the_normal_distribution():
    differences = [1.0, 0.0, 0.0, -1.0] * 100
    low, high = mean_interval([differences])
    assert (low, high) == pytest.approx((-1.96 * 0.5**0.5 / 20, 1.96 * 0.5**0.5 / 20), abs=0.01)


def test_a_ratio_has_no_interval_where_there_may_be_nothing_to_divide_by():
    assert ratio_interval([[1.0, 1.0]], [[1.0, 0.0]]) is None
    assert ratio_interval([], []) is None
    assert mean_interval([[]]) is None
