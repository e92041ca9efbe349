"""Shared-prefix attention equals ordinary attention over the concatenated sequence."""

from types import SimpleNamespace

import pytest
import torch

from precis.model.attention.dispatch import shared_prefix_attention
from precis.model.attention.kernels import causal_by_blocks
from precis.model.attention.layout import Batch
from precis.model.attention.row_cache import RowCache
from precis.model.prefix import Prefix

HEADS, KV_HEADS, DIM, SLOTS = 6, 2, 8, 5
LENGTHS = (4, 1, 7)


@pytest.fixture(autouse=True)
def on_every_device(device):
    with torch.device(device):
        yield


def random_prefix(slots=SLOTS, bias=False, requires_grad=False):
    generator = torch.Generator(torch.get_default_device()).manual_seed(1)

    def draw(*shape):
        return torch.randn(
            1, KV_HEADS, slots, *shape, generator=generator, dtype=torch.float64
        ).requires_grad_(requires_grad)

    positions = torch.arange(slots).expand(1, KV_HEADS, -1)
    return Prefix(draw(DIM), draw(DIM), positions, slots, draw() if bias else None)


def packed_batch(prefix, **more):
    row = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    column = torch.cat([torch.arange(length) for length in LENGTHS])
    return Batch(row, column, prefix, count=len(LENGTHS), width=max(LENGTHS), **more)


def packed_states(requires_grad=False):
    generator = torch.Generator(torch.get_default_device()).manual_seed(2)
    return [
        torch.randn(1, heads, sum(LENGTHS), DIM, generator=generator, dtype=torch.float64).requires_grad_(
            requires_grad
        )
        for heads in (HEADS, KV_HEADS, KV_HEADS)
    ]


def attend(query, key, value, batch, **more):
    module = SimpleNamespace(layer_idx=0)
    return shared_prefix_attention(module, query, key, value, None, batch=batch, scaling=0.3, **more)[0]


def ordinary(query, key, value, prefix, window=None, softcap=None):
    """Row by row and head by head: softmax over prefix and row, written out."""
    out, start = [], 0
    for length in LENGTHS:
        place = slice(start, start + length)
        start += length
        heads = []
        for head in range(HEADS):
            kv = head // (HEADS // KV_HEADS)
            keys = torch.cat([prefix.keys[0, kv], key[0, kv, place]])
            values = torch.cat([prefix.values[0, kv], value[0, kv, place]])
            scores = 0.3 * query[0, head, place] @ keys.T
            if softcap is not None:
                scores = softcap * torch.tanh(scores / softcap)
            if prefix.bias is not None:
                scores = scores + torch.cat([prefix.bias[0, kv], torch.zeros(length)])
            at = torch.arange(length)[:, None] + prefix.next_position
            own = torch.arange(length) + prefix.next_position
            key_at = torch.cat([prefix.positions[0, kv], own])
            seen = key_at <= at
            if window is not None:
                seen &= key_at > at - window
            heads.append(torch.softmax(scores.masked_fill(~seen, -torch.inf), -1) @ values)
        out.append(torch.stack(heads, dim=1))
    return torch.cat(out).unsqueeze(0)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("window", [None, 3, 100])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("packed", [True, False])
def test_forward_and_backward_equal_ordinary_attention(bias, window, softcap, packed, monkeypatch):
    if not packed:
        monkeypatch.setattr("precis.model.attention.dispatch.MOST_PACKED", 0)
    results = []
    for attention in ("shared", "ordinary"):
        prefix = random_prefix(bias=bias, requires_grad=True)
        states = packed_states(requires_grad=True)
        if attention == "shared":
            out = attend(*states, packed_batch(prefix), sliding_window=window, softcap=softcap)
        else:
            out = ordinary(*states, prefix, window, softcap)
        out.square().sum().backward()
        leaves = [*states, prefix.keys, prefix.values] + ([prefix.bias] if bias else [])
        results.append([out.detach()] + [leaf.grad for leaf in leaves])
    for shared, plain in zip(*results, strict=True):
        torch.testing.assert_close(shared, plain)


def test_a_document_that_needs_no_gradient_gets_none_and_its_bias_the_right_one():
    gradients = []
    for needed in (True, False):
        prefix = random_prefix(bias=True, requires_grad=needed)
        prefix.bias.requires_grad_()
        states = packed_states(requires_grad=True)
        attend(*states, packed_batch(prefix)).square().sum().backward()
        assert (prefix.keys.grad is not None) == needed
        gradients.append([prefix.bias.grad, *(state.grad for state in states)])
    for with_keys, without in zip(*gradients, strict=True):
        torch.testing.assert_close(with_keys, without)


def test_one_row_with_nothing_before_it_equals_ordinary_attention():
    empty = random_prefix(slots=0)
    query, key, value = packed_states()
    length = query.shape[2]
    column = torch.arange(length)
    batch = Batch(torch.zeros(length, dtype=torch.int64), column, empty, count=1, width=length)
    for window in (None, 3):
        scores = 0.3 * query[0] @ key[0].repeat_interleave(HEADS // KV_HEADS, 0).mT
        seen = column <= column[:, None]
        if window:
            seen &= column > column[:, None] - window
        weights = torch.softmax(scores.masked_fill(~seen, -torch.inf), -1)
        expected = (weights @ value[0].repeat_interleave(HEADS // KV_HEADS, 0)).transpose(0, 1)
        found = attend(query, key, value, batch, sliding_window=window)[0]
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("block", [1, 5, 12, 100])
def test_reading_by_blocks_equals_reading_at_once(block, monkeypatch):
    monkeypatch.setattr("precis.model.attention.kernels.BLOCK", block)
    query, key, value = packed_states()
    length = query.shape[2]
    found = causal_by_blocks(query[0], key[0], value[0], 0.3)
    seen = torch.ones(length, length, dtype=torch.bool).tril()
    scores = 0.3 * query[0] @ key[0].repeat_interleave(HEADS // KV_HEADS, 0).mT
    weights = torch.softmax(scores.masked_fill(~seen, -torch.inf), -1)
    expected = (weights @ value[0].repeat_interleave(HEADS // KV_HEADS, 0)).transpose(0, 1)
    torch.testing.assert_close(found, expected)


def test_a_document_in_bfloat16_is_read_by_blocks(monkeypatch):
    monkeypatch.setattr("precis.model.attention.kernels.BLOCK", 4)
    states = [state.to(torch.bfloat16) for state in packed_states()]
    length = states[0].shape[2]
    column = torch.arange(length)
    empty = random_prefix(slots=0)
    results = []
    for block in (4, 100):
        monkeypatch.setattr("precis.model.attention.kernels.BLOCK", block)
        batch = Batch(torch.zeros(length, dtype=torch.int64), column, empty, count=1, width=length)
        with torch.no_grad():
            results.append(attend(*states, batch))
    torch.testing.assert_close(*results, rtol=3e-2, atol=3e-2)
    assert results[0].shape == (1, length, HEADS, DIM)


def test_token_by_token_with_a_cache_equals_whole_rows():
    prefix = random_prefix(bias=True)
    query, key, value = packed_states()
    whole = attend(query, key, value, packed_batch(prefix), sliding_window=4)[0]
    cache = RowCache(prefix, rows=len(LENGTHS), width=max(LENGTHS))
    starts = torch.tensor([0, *LENGTHS[:-1]]).cumsum(0)
    for column in range(min(LENGTHS)):
        places = starts + column
        batch = Batch(
            torch.arange(len(LENGTHS)),
            torch.full((len(LENGTHS),), column),
            prefix,
            count=len(LENGTHS),
            width=column + 1,
            own=cache,
        )
        step = attend(query[:, :, places], key[:, :, places], value[:, :, places], batch, sliding_window=4)
        torch.testing.assert_close(step[0], whole[places])


@pytest.mark.parametrize("packed", [True, False])
def test_importance_is_the_squared_attention_by_slot_and_ignores_padding(packed, monkeypatch):
    if not packed:
        monkeypatch.setattr("precis.model.attention.dispatch.MOST_PACKED", 0)
    prefix = random_prefix()
    query, key, value = packed_states()
    importance = torch.zeros(1, KV_HEADS, SLOTS)
    attend(query, key, value, packed_batch(prefix, importance=importance))
    expected = torch.zeros(KV_HEADS, SLOTS, dtype=torch.float64)
    start = 0
    for length in LENGTHS:
        for head in range(HEADS):
            kv = head // (HEADS // KV_HEADS)
            for place in range(length):
                keys = torch.cat([prefix.keys[0, kv], key[0, kv, start : start + place + 1]])
                weights = torch.softmax(0.3 * query[0, head, start + place] @ keys.T, -1)
                expected[kv] += weights[:SLOTS] ** 2
        start += length
    torch.testing.assert_close(importance[0].double(), expected, rtol=1e-5, atol=1e-6)
