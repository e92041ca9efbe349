"""Attention matching: what the two fits promise."""

import pytest
import torch

from precis.compilation.warm_start.fitting import (
    match_attention,
    non_negative_least_squares,
    ridge_least_squares,
)
from precis.model.attention.observation import Queries, attention_weights
from precis.model.conditioned import Example
from precis.model.selection import Selection, best_of_all

ROWS = [Example([50 + n, 60, 70 + n], [80, 81 + n, 82]) for n in range(20)]


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_weights_satisfy_the_optimality_conditions(ridge):
    features = draw(200, 12) ** 6  # skewed, as attention is
    target = features @ torch.linspace(-1, 2, 12, dtype=torch.float64) + draw(200, seed=1)
    found = non_negative_least_squares(features, target, ridge)
    penalty = ridge * features.square().sum(0).mean()
    slope = features.T @ (features @ found - target) + penalty * (found - 1)
    scale = (features.T @ target).abs().max()
    assert (found >= 0).all()
    assert (found == 0).any()
    assert (found > 0).any()
    assert (slope[found == 0] > -1e-4 * scale).all()
    assert slope[found > 0].abs().max() < 1e-4 * scale


def test_weights_that_made_the_target_are_found_again():
    weight = torch.tensor([0.5, 0.0, 2.0, 7.0], dtype=torch.float64)
    features = draw(100, 4)
    torch.testing.assert_close(
        non_negative_least_squares(features, features @ weight, 0.0), weight, rtol=1e-3, atol=1e-3
    )


def test_ridge_least_squares_is_the_minimum_and_leans_towards_what_is_given():
    features, target, towards = draw(50, 5), draw(50, 3, seed=1), draw(5, 3, seed=2)
    penalty = 0.3 * features.square().sum(0).mean()

    def loss(values):
        return (features @ values - target).square().sum() + penalty * (values - towards).square().sum()

    found = ridge_least_squares(features, target, towards, 0.3)
    for seed in range(5):
        assert loss(found) < loss(found + 0.01 * (draw(5, 3, seed=seed) - 0.5))
    torch.testing.assert_close(ridge_least_squares(features, target, towards, 1e9), towards)


def mass_and_output(model, prefix, document):
    """The document's attention that slots draw, relative to all of it, and what they give, by layer 0."""
    queries = Queries()
    model.given(document).answer_logits(ROWS, observe=queries)
    limits, scaling = model.limits[0], queries.scaling[0]
    at = torch.full((len(queries.states[0]),), 10**4, device=model.device)  # behind everything
    heads = queries.states[0].shape[1] // model.kv_heads
    keys = torch.cat([prefix.keys[0], document.keys[0]], dim=1)
    grouped = queries.states[0].view(len(at), model.kv_heads, heads, -1).permute(1, 2, 0, 3)
    scores = scaling * grouped @ keys.unsqueeze(1).mT
    bias = 0 if prefix.bias is None else prefix.bias[0][:, None, None]
    kept = (scores[..., : prefix.slots] + bias).logsumexp(-1)
    mass = (kept - scores[..., prefix.slots :].logsumexp(-1)).exp()
    weights = torch.softmax(scores[..., : prefix.slots] + bias, -1)
    full = attention_weights(queries.states[0], scaling, at, document.layer(0), limits)
    return mass, (weights @ prefix.values[0].unsqueeze(1)) - full @ document.values[0].unsqueeze(1)


def test_slots_draw_the_documents_attention_and_give_its_output(tiny_model):
    document = tiny_model.prefill(list(range(3, 43)))
    indices = torch.arange(0, 40, 4, device=tiny_model.device).expand(
        tiny_model.layers, tiny_model.kv_heads, -1
    )
    selection = Selection(indices)
    fitted = match_attention(tiny_model, document, selection, ROWS)
    before, error_before = mass_and_output(tiny_model, selection.of(document), document)
    after, error_after = mass_and_output(tiny_model, fitted, document)
    assert (after - 1).square().mean() < 0.5 * (before - 1).square().mean()
    assert error_after.square().mean() < 0.5 * error_before.square().mean()


def test_hidden_slots_stay_hidden_and_without_bias_only_values_change(tiny_model):
    document = tiny_model.prefill(list(range(3, 43)))
    selection = best_of_all(draw(*document.positions.shape).to(tiny_model.device), 6, 1)
    start = selection.of(document)
    fitted = match_attention(tiny_model, document, selection, ROWS)
    assert torch.equal(fitted.bias > -torch.inf, start.bias > -torch.inf)
    assert torch.equal(fitted.keys, start.keys)
    valued = match_attention(tiny_model, document, selection, ROWS, bias=False)
    assert torch.equal(valued.bias, start.bias)
    assert not torch.equal(valued.values, start.values)


def test_a_head_that_keeps_the_sink_alone_is_left_as_it_is(tiny_model):
    document = tiny_model.prefill(list(range(3, 43)))
    scores = draw(*document.positions.shape).to(tiny_model.device)
    scores[0, 0] = -1
    selection = best_of_all(scores, 4, 1)
    assert selection.counts()[0][0] == 1
    fitted = match_attention(tiny_model, document, selection, ROWS)
    assert fitted.values.isfinite().all()
    assert torch.equal(fitted.values[0, 0, 0], document.values[0, 0, 0])
