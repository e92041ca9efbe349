"""Intervals: they hold what they should, and tell of questions, not of documents."""

import pytest

from precis.bootstrap import recovery_interval


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
