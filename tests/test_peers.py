"""The cross-check with kvpress: what its numbers mean. It runs itself in two environments, by hand."""

import pytest
import torch

from benchmarks.peers.compare import agreement, kept_in, largest_attention_among, score_difference
from precis.baselines.kvzip import largest_attention
from precis.model.loading import load_model
from precis.model.prefix import Prefix
from tests.conftest import RECALL_MODEL


def test_hidden_slots_are_not_kept():
    positions = torch.tensor([[[1, 4], [3, 0]]])
    states = torch.zeros(1, 2, 2, 8)
    bias = torch.tensor([[[0.0, 0.0], [0.0, -torch.inf]]])
    shown = kept_in(Prefix(states, states, positions, 5, bias), 5)
    assert shown[0].nonzero().tolist() == [[0, 1], [0, 4], [1, 3]]
    assert kept_in(Prefix(states, states, positions, 5), 5)[0, 1, 0]


def test_agreement_counts_over_heads_of_any_size():
    theirs = torch.tensor([[[1, 1, 1, 0], [0, 0, 0, 1]]], dtype=torch.bool)
    ours = torch.tensor([[[1, 1, 0, 1], [0, 0, 0, 1]]], dtype=torch.bool)
    found = agreement("name", ours, theirs)
    assert found.shared == pytest.approx(3 / 4)
    assert found.worst_head == pytest.approx(2 / 3)
    assert (found.heads_alike, found.other_keys, found.score_difference) == (0.5, 1, None)
    assert agreement("name", theirs, theirs).shared == 1


def test_places_that_always_stay_have_no_score_to_compare():
    ours = torch.tensor([[[torch.inf, 2.0, 4.0]]])
    theirs = torch.tensor([[[9.0, 2.0, 5.0]]])
    assert score_difference(ours, theirs) == pytest.approx(1 / 5)


def test_attention_among_all_keys_is_the_baselines_own():
    model = load_model(str(RECALL_MODEL))
    document = model.prefill(list(range(5, 25)))
    repetition = list(range(5, 17))
    whole = largest_attention(model, document, repetition)
    everywhere = largest_attention_among(model, document, repetition, torch.arange(32))
    torch.testing.assert_close(everywhere, whole, check_dtype=False)
    # fewer keys share the same attention: what remains gets more, what is hidden none
    fewer = largest_attention_among(model, document, repetition, torch.arange(10, 32))
    assert not fewer[..., :10].any()
    assert (fewer[..., 10:] >= whole[..., 10:] - 1e-6).all()
    assert (fewer[..., 10:] > whole[..., 10:] + 1e-3).any()
