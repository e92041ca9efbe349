"""When a compile has paid for itself."""

import pytest

from precis.compilation.break_even import BreakEven, Pace, measure_pace
from precis.compilation.progress import Stopwatch


def found(**changes):
    values = {
        "compile_seconds": 100.0,
        "reading_seconds": 2.0,
        "answer_tokens": 11,
        "full": Pace(first_token=0.5, token=0.03, prefix_bytes=100),
        "soft_prompt": Pace(first_token=0.1, token=0.02, prefix_bytes=5),
    }
    return BreakEven(**{**values, **changes})


def test_questions_are_counted_until_the_saved_time_is_the_compile_s():
    even = found()
    seconds = even.question_seconds
    assert seconds == pytest.approx({"soft prompt": 0.3, "reading": 2.8, "cache": 0.8})
    after = even.questions_against("reading")
    assert (after - 1) * 2.5 < 100 <= after * 2.5
    # a cache costs one reading, too
    after = even.questions_against("cache")
    assert (after - 1) * 0.5 < 98 <= after * 0.5


def test_a_soft_prompt_that_is_no_faster_never_pays():
    slow = found(soft_prompt=Pace(first_token=0.5, token=0.03, prefix_bytes=5))
    assert slow.questions_against("cache") is None
    assert slow.questions_against("reading") is not None


def test_pace_is_measured_question_by_question(tiny_model):
    given = tiny_model.given(tiny_model.prefill([5, 6, 7]))
    pace = measure_pace(given, [[8, 9], [10], [11, 12]])
    assert pace.first_token > 0
    assert pace.token > 0
    assert pace.prefix_bytes == given.prefix.nbytes
    assert measure_pace(given, [[8]]).first_token > 0


def test_a_stopwatch_counts_a_stage_on_that_comes_back():
    watch = Stopwatch()
    for name, units in (("one", 2), ("two", 3), ("one", 4)):
        watch.stage(name, 9)
        watch.advance(units)
    watch.end()
    assert {stage.name: stage.units for stage in watch.stages} == {"two": 3, "one": 6}
    assert all(stage.seconds > 0 for stage in watch.stages)
