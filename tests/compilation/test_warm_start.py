"""σ₀: which of the document's slots it keeps, in which heads."""

from dataclasses import replace

import pytest
import torch

from precis.compilation.warm_start import WARM_STARTS, Material, Read, warm_start_named
from precis.compilation.warm_start.scoring import attention_and_sensitivity, slot_scores
from precis.errors import SettingsError
from precis.model.conditioned import Example

DOCUMENT = list(range(3, 43))
ROWS = [Example([50 + n, 60, 70 + n], [80, 81 + n, 82]) for n in range(12)]


def read_of(model, tokens, own=None, rows=ROWS):
    prefix = model.prefill(tokens)
    own = (torch.arange(prefix.slots) if own is None else own).to(model.device)
    return Read(prefix, own, rows)


@pytest.fixture(scope="module")
def read(tiny_model):
    return read_of(tiny_model, DOCUMENT)


def start_of(name, model, read, slots, **options):
    return start_of_all(name, model, [read], slots, **options)


def start_of_all(name, model, reads, slots, **options):
    material = Material(model, reads, slot_scores(model, reads), slots, **options)
    return warm_start_named(name).key_values(material)


@pytest.mark.parametrize("bias", [True, False])
def test_slots_go_where_attention_times_sensitivity_is_greatest(bias, tiny_model, read):
    attention, sensitivity = attention_and_sensitivity(tiny_model, read.prefix, ROWS, lambda: False)
    scores = attention * sensitivity
    scores[..., 0] = torch.inf
    start = start_of("attention", tiny_model, read, 5, bias=bias)
    heads = scores.shape[0] * scores.shape[1]
    if bias:
        least = scores.flatten().topk(5 * heads).values[-1]
        wanted = [[torch.nonzero(head >= least)[:, 0].tolist() for head in layer] for layer in scores]
        assert len({len(head) for layer in wanted for head in layer}) > 1
    else:
        wanted = [[sorted(head.topk(5).indices.tolist()) for head in layer] for layer in scores]
    assert start.shown == 5 * heads
    for layer, heads_wanted in enumerate(wanted):
        for head, places in enumerate(heads_wanted):
            assert start.positions[layer, head, : len(places)].tolist() == places
            torch.testing.assert_close(
                start.keys[layer, head, : len(places)], read.prefix.keys[layer, head, places]
            )
    assert start.next_position == read.prefix.next_position


def test_sensitivity_is_the_squared_gradient_of_the_attention_that_a_slot_draws(tiny_model, read):
    """Checked by finite differences: a little more bias on one slot, a little other NLL."""
    step_size = 0.05  # logits come in float32
    rows = ROWS[:8]
    _, found = attention_and_sensitivity(tiny_model, read.prefix, rows, lambda: False)

    def loss(bias):
        given = tiny_model.given(replace(read.prefix, bias=bias))
        return -sum(
            float(scores.gather(1, torch.tensor(row.answer, device=scores.device).unsqueeze(1)).sum())
            for row, scores in zip(rows, given.score(rows), strict=True)
        )

    for layer, head, slot in [(0, 0, 0), (1, 1, 7), (2, 0, 39)]:
        step = torch.zeros_like(read.prefix.keys[..., 0])
        step[layer, head, slot] = step_size
        slope = (loss(step) - loss(-step)) / (2 * step_size)
        assert float(found[layer, head, slot]) == pytest.approx(slope**2 / len(rows), rel=0.05, abs=1e-6)


def test_scores_make_do_with_one_batch_where_time_is_short(tiny_model, read):
    hurried = attention_and_sensitivity(tiny_model, read.prefix, ROWS, lambda: True)
    few = attention_and_sensitivity(tiny_model, read.prefix, ROWS[:8], lambda: False)
    every = attention_and_sensitivity(tiny_model, read.prefix, ROWS, lambda: False)
    torch.testing.assert_close(hurried, few)
    assert not torch.equal(hurried[1], every[1])


def test_attention_is_that_of_the_rows_to_each_slot(tiny_model, read):
    found, _ = attention_and_sensitivity(tiny_model, read.prefix, ROWS, lambda: False)
    one_by_one = [attention_and_sensitivity(tiny_model, read.prefix, [row], lambda: False)[0] for row in ROWS]
    torch.testing.assert_close(found, torch.stack(one_by_one).mean(0))


@pytest.mark.parametrize("name", ["attention-matching", "attention", "even", "first"])
def test_as_many_slots_as_the_document_has_are_the_document(name, any_model):
    read = read_of(any_model, DOCUMENT)
    start = start_of(name, any_model, read, read.prefix.slots)
    logits = [any_model.given(prefix).answer_logits(ROWS) for prefix in (start, read.prefix)]
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-4)
    assert start.next_position == read.prefix.next_position


@pytest.mark.parametrize("name", WARM_STARTS)
def test_as_many_slots_as_asked_and_the_sink_as_it_is(name, tiny_model, read):
    start = start_of(name, tiny_model, read, 6)
    assert start.slots_per_head == 6
    torch.testing.assert_close(start.keys[:, :, 0], read.prefix.keys[:, :, 0])
    torch.testing.assert_close(start.values[:, :, 0], read.prefix.values[:, :, 0])


@pytest.mark.parametrize("name", WARM_STARTS)
def test_without_bias_all_heads_are_alike(name, tiny_model, read):
    start = start_of(name, tiny_model, read, 6, bias=False)
    assert start.bias is None
    assert start.slots == 6


def test_matching_brings_the_answers_nearer_to_the_document(tiny_model, read):
    full = tiny_model.given(read.prefix).answer_logits(ROWS).log_softmax(-1)

    def distance(name):
        found = tiny_model.given(start_of(name, tiny_model, read, 8)).answer_logits(ROWS).log_softmax(-1)
        return float((full.exp() * (full - found)).sum(-1).mean())

    assert distance("attention-matching") < 0.8 * distance("attention") < distance("random")


@pytest.mark.parametrize("name", ["attention-matching", "attention"])
@pytest.mark.parametrize("bias", [True, False])
def test_slots_of_several_readings_come_from_each_and_end_where_the_longest_does(name, bias, tiny_model):
    longer = list(range(3, 33))
    first = read_of(tiny_model, longer, own=torch.arange(0, 28))
    second = read_of(tiny_model, [3, 4, *range(100, 126)], own=torch.arange(2, 28))
    start = start_of_all(name, tiny_model, [first, second], 10, bias=bias)
    assert start.slots_per_head == 10
    assert start.next_position == len(longer)
    key_rows = {tuple(key.tolist()) for key in start.keys.flatten(0, 2)}
    for part in (first, second):
        assert key_rows & {tuple(key.tolist()) for key in part.prefix.keys[:, :, part.own].flatten(0, 2)}
    assert torch.equal(start.values[:, :, 0], first.prefix.values[:, :, 0])
    if name == "attention":
        value_rows = {
            tuple(v.tolist())
            for part in (first, second)
            for v in part.prefix.values[:, :, part.own].flatten(0, 2)
        }
        shown = torch.ones_like(start.positions, dtype=torch.bool) if start.bias is None else start.bias == 0
        assert {tuple(value.tolist()) for value in start.values[shown]} <= value_rows


def test_a_reading_of_which_nothing_was_asked_is_allowed(tiny_model, read):
    silent = read_of(tiny_model, list(range(100, 120)), own=torch.arange(1, 20), rows=[])
    start = start_of_all("attention-matching", tiny_model, [read, silent], 6)
    assert start.slots_per_head == 6


def test_even_spans_the_document_and_first_stands_where_it_ends(tiny_model, read):
    assert start_of("even", tiny_model, read, 3).positions[0, 0].tolist() == [0, 20, 39]
    assert start_of("first", tiny_model, read, 3).next_position == 3


def test_random_differs_by_seed(tiny_model, read):
    starts = [start_of("random", tiny_model, read, 6, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(starts[0].keys, starts[1].keys)
    assert not torch.equal(starts[0].keys, starts[2].keys)


@pytest.mark.parametrize("name", WARM_STARTS)
def test_embeddings_are_chosen_for_all_heads_at_once(name):
    scores = torch.rand(2, 3, 20, generator=torch.Generator().manual_seed(1))
    embeddings = torch.randn(20, 8, generator=torch.Generator().manual_seed(2))
    material = Material(None, [], scores, 6, embeddings=embeddings)
    start = warm_start_named(name).embeddings(material)
    assert start.shape == (6, 8)
    assert torch.equal(start[0], embeddings[0])


def test_what_is_no_warm_start_is_refused(tiny_model, read):
    with pytest.raises(SettingsError, match="attention-matching, attention, even, first, random"):
        start_of("best", tiny_model, read, 3)
