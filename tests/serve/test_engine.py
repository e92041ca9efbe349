"""The engine: requests share passes, come and go at any time, and fail alone."""

import queue
import threading

import pytest
import torch

from precis.errors import PrecisError
from precis.model.decoding import Request, Sampling
from precis.serve.engine import engine as engine_module
from precis.serve.engine.engine import (
    BusyError,
    Chosen,
    ClosingError,
    Ended,
    Engine,
    EngineError,
    Failed,
    Text,
    Work,
)
from tests.serve.running import PATIENCE, until, wordy_model

GREEDY = (Sampling(),)


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return wordy_model()


@pytest.fixture(scope="module")
def prefixes(model):
    return [model.prefill([20 + (n * 7 + k) % 250 for k in range(30 + 100 * n)]) for n in range(5)]


@pytest.fixture
def make_engine(model):
    made = []

    def make(**settings):
        made.append(Engine(model, **{"places": 8, "most_rows": 64, "memory": 100_000, **settings}))
        return made[-1]

    yield make
    for engine in made:
        engine.close()
        assert not engine._thread.is_alive()


class Recorder:
    """Collects what the engine reports of one request."""

    def __init__(self):
        self.events = queue.SimpleQueue()
        self.tokens = {}
        self.ends = {}

    def __call__(self, place, event):
        self.events.put((place, event))

    def wait(self, rows=1):
        while len(self.ends) < rows:
            self.take()
        return self

    def take(self):
        place, event = self.events.get(timeout=PATIENCE)
        if isinstance(event, Chosen):
            assert place not in self.ends
            self.tokens.setdefault(place, []).append(event)
        else:
            self.ends[place] = event
        return event

    def ids(self, place=0):
        return [chosen.token for chosen in self.tokens.get(place, [])]


def alone(model, work, place=0):
    request = Request(work.prefix, work.prompt, work.max_tokens, work.samplings[place])
    return model.generate([request])[0].tokens


def test_many_requests_together_say_what_each_says_alone(make_engine, model, prefixes):
    works = [
        Work(
            prefixes[n % 5],
            [30 + n] * (1 + n % 4),
            5 + n % 9,
            (Sampling(1.2 * (n % 2), 1.0 - 0.2 * (n % 3), seed=n),),
            top_k=n % 3,
            entropies=n % 2 == 0,
        )
        for n in range(40)
    ]
    engine = make_engine()
    recorder = [Recorder() for _ in works]
    for work, one in zip(works, recorder, strict=True):
        engine.submit(work, one)
    for work, one in zip(works, recorder, strict=True):
        one.wait()
        assert one.ids() == alone(model, work)
        for chosen in one.tokens[0]:
            assert len(chosen.top) == work.top_k
            assert (chosen.entropy is not None) == work.entropies
        assert one.ends[0] == Ended(one.tokens[0][-1].ends)
    assert engine.rows == 0
    assert engine.steps < sum(len(one.ids()) for one in recorder) / 3


def test_rows_of_one_request_end_by_themselves(make_engine, model, prefixes):
    work = Work(prefixes[0], [30, 31], 12, tuple(Sampling(1.5, 1.0, seed) for seed in range(4)))
    recorder = Recorder()
    engine = make_engine()
    engine.submit(work, recorder)
    recorder.wait(4)
    for place in range(4):
        assert recorder.ids(place) == alone(model, work, place)


def test_a_long_prompt_and_a_text_are_read_between_the_steps_of_others(make_engine, model, prefixes):
    text = [20 + k % 250 for k in range(900)]
    long_prompt = [25 + k % 200 for k in range(1000)]
    engine = make_engine()
    short, reading = Recorder(), Recorder()
    engine.submit(Work(prefixes[0], [30], 3000, GREEDY), short)
    work = Work(model.empty_prefix(), long_prompt, 6, GREEDY, text=Text("a", text))
    assert work.end == 1900
    engine.submit(work, reading)
    order = []
    while not reading.ends:
        event = reading.take()
        order.append(event)
    whole = Work(model.prefill(text), long_prompt, 6, GREEDY)
    assert reading.ids() == alone(model, whole)
    # while 4 + 3 chunks were read, the other went on writing
    assert short.events.qsize() >= 7
    # the text is known now: asking again reads the prompt alone
    steps = engine.steps
    again = Recorder()
    engine.submit(Work(model.empty_prefix(), [30], 1, GREEDY, text=Text("a", text)), again)
    again.wait()
    assert again.ids() == alone(model, Work(model.prefill(text), [30], 1, GREEDY))
    assert engine.steps > steps


def test_two_that_ask_about_one_text_read_it_once(make_engine, model, monkeypatch):
    text = [20 + k % 250 for k in range(700)]
    chunks = []
    prefill = model.prefill
    monkeypatch.setattr(model, "prefill", lambda tokens, after: chunks.append(1) or prefill(tokens, after))
    engine = make_engine()
    recorder = [Recorder() for _ in range(5)]
    works = [Work(model.empty_prefix(), [30 + n], 3, GREEDY, text=Text("t", text)) for n in range(5)]
    for work, one in zip(works, recorder, strict=True):
        engine.submit(work, one)
    for one in recorder:
        one.wait()
    assert len(chunks) == 3


def test_a_text_that_is_larger_than_the_memory_is_not_kept(make_engine, model):
    engine = make_engine(memory=600)
    for key in ("a", "b", "c"):
        recorder = Recorder()
        text = Text(key, [20 + k % 250 for k in range(400)])
        engine.submit(Work(model.empty_prefix(), [30], 2, GREEDY, text=text), recorder)
        recorder.wait()
        assert isinstance(recorder.ends[0], Ended)
    assert list(engine._texts) == ["c"]


def test_who_reads_by_turns_is_not_held_up_by_who_reads_long(make_engine, model, prefixes):
    engine = make_engine()
    ended = queue.SimpleQueue()

    def on_event_of(name):
        return lambda place, event: ended.put(name) if isinstance(event, Ended) else None

    long_text = Text("long", [20 + k % 250 for k in range(3500)])
    engine.submit(Work(model.empty_prefix(), [30], 1, GREEDY, text=long_text), on_event_of("long"))
    short_text = Text("short", [20 + k % 250 for k in range(300)])
    engine.submit(Work(model.empty_prefix(), [30], 1, GREEDY, text=short_text), on_event_of("short"))
    assert [ended.get(timeout=PATIENCE), ended.get(timeout=PATIENCE)] == ["short", "long"]


def test_dropping_frees_a_row_at_once_wherever_it_is(make_engine, model, prefixes):
    engine = make_engine(places=2)
    at_work, waiting, reading, other = Recorder(), Recorder(), Recorder(), Recorder()
    tickets = [
        engine.submit(Work(prefixes[0], [30], 3000, (Sampling(1.0, 1.0, seed),) * 2), recorder)
        for seed, recorder in ((1, at_work), (2, waiting))
    ]
    text = Text("x", [20] * 3000)
    tickets.append(engine.submit(Work(model.empty_prefix(), [30], 5, GREEDY, text=text), reading))
    while not at_work.tokens:
        at_work.take()
    assert engine.rows == 5
    engine.drop(tickets[0], 1)
    assert engine.rows == 4
    for ticket in tickets:
        engine.drop(ticket)
        engine.drop(ticket)
    assert engine.rows == 0
    work = Work(prefixes[1], [30], 5, GREEDY)
    engine.submit(work, other)
    assert other.wait().ids() == alone(model, work)
    until(lambda: engine.at_work == 0)
    assert not engine._readings
    assert waiting.events.empty()
    assert reading.events.empty()


def test_one_row_of_a_request_can_be_dropped(make_engine, model, prefixes):
    work = Work(prefixes[0], [30], 200, tuple(Sampling(1.0, 1.0, seed) for seed in range(3)))
    recorder, engine = Recorder(), make_engine()
    ticket = engine.submit(work, recorder)
    while len(recorder.tokens.get(1, [])) < 3:
        recorder.take()
    engine.drop(ticket, 1)
    recorder.wait(2)
    assert recorder.ends.keys() == {0, 2}
    assert recorder.ids(0) == alone(model, work, 0)
    assert recorder.ids(2) == alone(model, work, 2)
    assert engine.rows == 0


def test_beyond_its_bound_it_is_busy_and_says_for_how_long(make_engine, prefixes):
    engine = make_engine(most_rows=3)
    works = [Work(prefixes[0], [30], 3000, (Sampling(1.0, 1.0, seed),)) for seed in range(4)]
    tickets = [engine.submit(work, Recorder()) for work in works[:3]]
    with pytest.raises(BusyError) as busy:
        engine.submit(works[3], Recorder())
    assert 1 <= busy.value.retry_s <= 60
    engine.drop(tickets[0])
    engine.submit(works[3], Recorder())
    for ticket in tickets:
        engine.drop(ticket)


def test_a_failing_pass_fails_those_in_it_and_no_one_else(make_engine, model, prefixes, monkeypatch, caplog):
    engine = make_engine()
    forward, poison = model.forward, 280
    message = "the secret text of a question"

    def failing(tokens, rows, wanted):
        if poison in list(tokens):
            raise RuntimeError(message)
        return forward(tokens, rows, wanted)

    monkeypatch.setattr(model, "forward", failing)
    long, bad, bad_text, after = Recorder(), Recorder(), Recorder(), Recorder()
    work = Work(prefixes[0], [30], 400, (Sampling(1.0, 0.9, 5),))
    engine.submit(work, long)
    while not long.tokens:
        long.take()
    engine.submit(Work(prefixes[1], [poison], 5, GREEDY * 3), bad)
    bad.wait(3)
    assert all(isinstance(end.error, EngineError) for end in bad.ends.values())
    text = Text("bad", [20] * 300 + [poison])
    engine.submit(Work(model.empty_prefix(), [30], 5, GREEDY, text=text), bad_text)
    assert isinstance(bad_text.wait().ends[0].error, EngineError)
    assert "secret" not in str(bad_text.ends[0].error)
    monkeypatch.setattr(model, "forward", forward)
    assert long.wait().ids() == alone(model, work)
    other = Work(prefixes[1], [31], 5, GREEDY)
    engine.submit(other, after)
    assert after.wait().ids() == alone(model, other)
    assert engine.rows == 0
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_a_failing_step_fails_all_in_it_and_what_waits_goes_on(make_engine, model, prefixes, monkeypatch):
    engine = make_engine(places=2)
    first, waiting = [Recorder(), Recorder()], Recorder()
    for seed, recorder in enumerate(first):
        engine.submit(Work(prefixes[seed], [30], 3000, (Sampling(1.0, 1.0, seed),)), recorder)
    work = Work(prefixes[0], [40], 6, GREEDY)
    engine.submit(work, waiting)
    for recorder in first:
        while not recorder.tokens:
            recorder.take()
    once = threading.Event()
    forward = model.forward

    def failing(tokens, rows, wanted):
        if not once.is_set():
            once.set()
            raise MemoryError
        return forward(tokens, rows, wanted)

    monkeypatch.setattr(model, "forward", failing)
    for recorder in first:
        assert isinstance(recorder.wait().ends[0], Failed)
    monkeypatch.setattr(model, "forward", forward)
    assert waiting.wait().ids() == alone(model, work)


def test_a_prompt_that_does_not_fit_fails_in_words(make_engine, model, prefixes):
    recorder = Recorder()
    make_engine().submit(Work(prefixes[0], [30] * 5000, 5, GREEDY), recorder)
    error = recorder.wait().ends[0].error
    assert isinstance(error, PrecisError)
    assert not isinstance(error, EngineError)
    assert "fit" in str(error)


def test_a_listener_that_fails_takes_down_its_own_request_only(make_engine, model, prefixes):
    engine, recorder = make_engine(), Recorder()

    def failing(place, event):
        raise ValueError

    engine.submit(Work(prefixes[0], [30], 100, GREEDY), failing)
    work = Work(prefixes[0], [31], 5, GREEDY)
    engine.submit(work, recorder)
    assert recorder.wait().ids() == alone(model, work)
    until(lambda: engine.rows == 0)


def test_others_can_use_the_model_between_steps(make_engine, model):
    engine = make_engine()
    assert engine.call(lambda: threading.current_thread().name).result(PATIENCE) == "precis-engine"
    with pytest.raises(ZeroDivisionError):
        engine.call(lambda: 1 / 0).result(PATIENCE)
    engine.close()
    with pytest.raises(ClosingError):
        engine.call(lambda: None)


def test_closing_finishes_what_runs_within_its_time_and_refuses_the_rest(make_engine, model, prefixes):
    engine, recorder, late = make_engine(), Recorder(), Recorder()
    work = Work(prefixes[0], [30], 50, GREEDY)
    engine.submit(work, recorder)
    engine.submit(Work(prefixes[0], [30], 3900, GREEDY), late)
    engine.refuse()
    with pytest.raises(ClosingError):
        engine.submit(work, Recorder())
    recorder.wait()
    assert recorder.ids() == alone(model, work)
    engine.close(0.05)
    assert isinstance(late.wait().ends[0].error, ClosingError)


def test_prefixes_of_unlike_length_do_not_work_side_by_side(make_engine, model, prefixes, monkeypatch):
    monkeypatch.setattr(engine_module, "NARROWEST_LANE", 100)
    engine, recorder = make_engine(), [Recorder() for _ in range(5)]
    works = [Work(prefix, [30], 8, GREEDY) for prefix in prefixes]
    for work, one in zip(works, recorder, strict=True):
        engine.submit(work, one)
    for work, one in zip(works, recorder, strict=True):
        assert one.wait().ids() == alone(model, work)
    assert sorted(engine._lanes) == [100, 400, 1600]
