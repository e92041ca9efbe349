"""Attention in two parts is attention, forward and backward."""

import pytest
import torch

from precis.model.attention.fused import FusedAttention, runs_on

HEADS, KV_HEADS, LENGTHS, SCALING = 6, 2, (4, 1, 7), 0.3
CASES = [(bias, dim) for bias in (False, True) for dim in (8, 12)]


@pytest.fixture(params=CASES, ids=lambda case: f"bias={case[0]},dim={case[1]}")
def states(request):
    """Queries, keys and values of packed rows, and those of a prefix, with a bias or without."""
    bias, dim = request.param
    torch.manual_seed(0)
    shapes = [(HEADS, sum(LENGTHS), dim), *[(KV_HEADS, sum(LENGTHS), dim)] * 2, *[(KV_HEADS, 5, dim)] * 2]
    drawn = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    return [*drawn, torch.randn(KV_HEADS, 5, dtype=torch.float64, requires_grad=True) if bias else None]


def places(device="cpu"):
    row = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    column = torch.cat([torch.arange(length) for length in LENGTHS])
    return row.to(device), column.to(device), (len(LENGTHS), max(LENGTHS)), SCALING


def written_out(query, key, value, prefix_key, prefix_value, bias):
    """One softmax over all keys, the hidden ones masked."""
    row, column, _, _ = places(query.device)
    group = HEADS // KV_HEADS
    keys, values = (
        torch.cat(pair, dim=1).repeat_interleave(group, dim=0)
        for pair in ((prefix_key, key), (prefix_value, value))
    )
    scores = SCALING * query @ keys.mT
    if bias is not None:
        own = bias.new_zeros(KV_HEADS, key.shape[1])
        scores = scores + torch.cat([bias, own], dim=1).repeat_interleave(group, dim=0).unsqueeze(1)
    seen = (row[:, None] == row) & (column[:, None] >= column)
    seen = torch.cat([seen.new_ones(len(row), prefix_key.shape[1]), seen], dim=1)
    return torch.softmax(scores.masked_fill(~seen, -torch.inf), dim=-1) @ values


def test_two_parts_are_one_attention(states):
    torch.testing.assert_close(FusedAttention.apply(*states, *places()), written_out(*states))


def test_gradients_are_those_of_one_attention(states):
    weights = torch.randn(HEADS, sum(LENGTHS), states[0].shape[-1], dtype=torch.float64)
    given = [state for state in states if state is not None]
    ours = torch.autograd.grad((FusedAttention.apply(*states, *places()) * weights).sum(), given)
    expected = torch.autograd.grad((written_out(*states) * weights).sum(), given)
    for mine, theirs in zip(ours, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_gradients_are_those_of_small_differences(states):
    assert torch.autograd.gradcheck(lambda *some: FusedAttention.apply(*some, *places()), states)


def test_plain_products_serve_where_no_kernel_pays():
    assert not runs_on(torch.zeros(64))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a graphics card")
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("head_dim", [64, 128])
def test_the_kernels_of_graphics_cards_agree(with_bias, head_dim):
    torch.manual_seed(0)
    tokens = sum(LENGTHS)
    shapes = [(HEADS, tokens), (KV_HEADS, tokens), (KV_HEADS, tokens), (KV_HEADS, 300), (KV_HEADS, 300)]
    drawn = [torch.randn(*shape, head_dim, device="cuda").bfloat16().requires_grad_() for shape in shapes]
    bias = (3 * torch.randn(KV_HEADS, 300, device="cuda")).requires_grad_() if with_bias else None
    given = [state for state in (*drawn, bias) if state is not None]
    assert runs_on(drawn[0])
    exact = [state.detach().double().requires_grad_() for state in given]
    out = FusedAttention.apply(*drawn, bias, *places("cuda"))
    expected = written_out(*exact, *([] if with_bias else [None]))
    weights = torch.randn_like(expected)
    ours = torch.autograd.grad((out * weights).sum(), given)
    theirs = torch.autograd.grad((expected * weights).sum(), exact)
    for mine, right in zip((out, *ours), (expected, *theirs), strict=True):
        assert (mine.double() - right).norm() < 0.02 * right.norm()
