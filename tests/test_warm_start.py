"""σ₀: which of the document's keys it keeps."""

import pytest
import torch

from precis.errors import SettingsError
from precis.prefix import Prefix
from precis.warm_start import chosen, embedding_start, key_value_start

LAYERS, HEADS, SLOTS, DIM = 2, 3, 20, 4


@pytest.fixture
def document():
    generator = torch.Generator().manual_seed(0)
    keys, values = (torch.randn(LAYERS, HEADS, SLOTS, DIM, generator=generator) for _ in range(2))
    return Prefix(keys, values, torch.arange(SLOTS).expand(LAYERS, HEADS, -1), SLOTS)


@pytest.fixture
def importance():
    return torch.rand(LAYERS, HEADS, SLOTS, generator=torch.Generator().manual_seed(1))


def test_attention_keeps_each_heads_most_attended_keys_and_the_sink(document, importance):
    importance[:, :, 0] = 0
    start = key_value_start("attention", document, importance, 5, seed=0)
    for layer in range(LAYERS):
        for head in range(HEADS):
            best = set(importance[layer, head].topk(4).indices.tolist())
            kept = start.positions[layer, head].tolist()
            assert kept == sorted(best | {0})
            torch.testing.assert_close(start.keys[layer, head], document.keys[layer, head, kept])
    assert start.next_position == document.next_position


@pytest.mark.parametrize("name", ["attention", "even", "first"])
def test_as_many_slots_as_the_document_has_keep_the_document(name, document, importance):
    start = key_value_start(name, document, importance, SLOTS, seed=0)
    torch.testing.assert_close(start.keys, document.keys)
    torch.testing.assert_close(start.values, document.values)
    assert start.next_position == document.next_position


def test_even_spans_the_document_and_first_stands_where_it_ends(document, importance):
    assert key_value_start("even", document, importance, 3, 0).positions[0, 0].tolist() == [0, 10, 19]
    assert key_value_start("first", document, importance, 3, 0).next_position == 3


def test_random_differs_by_seed_and_keeps_the_sink(document, importance):
    starts = [key_value_start("random", document, importance, 6, seed) for seed in (0, 0, 1)]
    assert torch.equal(starts[0].keys, starts[1].keys)
    assert not torch.equal(starts[0].keys, starts[2].keys)
    assert torch.equal(starts[0].keys[:, :, 0], document.keys[:, :, 0])


@pytest.mark.parametrize("name", ["attention", "even", "first", "random"])
def test_embeddings_are_chosen_for_all_heads_at_once(name, importance):
    embeddings = torch.randn(SLOTS, 8, generator=torch.Generator().manual_seed(2))
    start = embedding_start(name, embeddings, importance, 6, seed=0)
    assert start.shape == (6, 8)
    assert torch.equal(start[0], embeddings[0])


def test_what_is_no_warm_start_is_refused(importance):
    with pytest.raises(SettingsError, match="attention, even, first, random"):
        chosen("best", importance, 3)
