"""Rivals: each keeps what it may, where it stood; with room for everything it is the full document."""

import inspect

import pytest
import torch

from precis.compilation import Settings
from precis.document import Document
from precis.errors import WindowError
from precis.language_model import Row
from precis.prefix import Prefix
from precis.progress import Progress
from precis.rivals import RIVALS, Task
from precis.rivals.eviction import Eviction, best
from precis.rivals.keydiff import difference
from precis.rivals.observation import Queries, attention_weights
from precis.rivals.rival import Rival, read_tokens
from precis.rivals.snapkv import pooled

TEXT = (
    "the harbour closes at nine, and the lamp is red. a ferry of wood lies at anchor. kestrels nest in april."
)
DOCUMENT = Document.from_text(TEXT)
QUESTIONS = ["what lies at anchor?", "when does it close?", "where do kestrels nest?"]
TRAINED = {"prompt-tuning", "first-tokens"}
UNTRAINED = [name for name in RIVALS if name not in TRAINED]
EVICTING = [name for name, rival in RIVALS.items() if isinstance(rival, Eviction)]
TEXTUAL = ["truncate", "retrieve", "retrieve-x4"]
SLOTS = 12


def task_for(model, slots=SLOTS, document=DOCUMENT):
    return Task(model, document, slots, Settings(slots=slots), None, Progress())


def whole(model):
    return model.prefill(model.chat.reading(TEXT))


def template(model):
    return len(model.chat.reading(""))


def weights(model):
    return [tensor.clone() for tensor in model.network.state_dict().values()]


@pytest.mark.parametrize("name", UNTRAINED)
def test_a_rival_keeps_its_slots_and_leaves_the_model_alone(any_model, name):
    before, hooks = weights(any_model), len(any_model.network._forward_hooks)
    for prefix, _ in RIVALS[name].prepare(task_for(any_model))(QUESTIONS):
        heads = any_model.layers * any_model.kv_heads
        if name in EVICTING:
            assert prefix.shown == SLOTS * heads
            assert prefix.next_position == len(any_model.chat.reading(TEXT))
        else:
            most = SLOTS * (4 if name == "retrieve-x4" else 1) + template(any_model)
            assert template(any_model) < prefix.slots <= most
            assert prefix.next_position == prefix.slots
        assert int(prefix.positions.max()) < prefix.next_position
        seen = prefix.positions if prefix.bias is None else prefix.positions[prefix.bias > -torch.inf]
        assert bool((prefix.positions.diff(dim=-1) > 0).all()) or prefix.bias is not None
        assert seen.numel() == prefix.shown
        assert not prefix.keys.requires_grad
    assert all(torch.equal(*pair) for pair in zip(before, weights(any_model), strict=True))
    assert len(any_model.network._forward_hooks) == hooks


@pytest.mark.parametrize("name", EVICTING)
def test_kept_keys_are_the_documents_own_where_they_stood(any_model, name):
    document = whole(any_model)
    prefix = RIVALS[name].prefix(task_for(any_model))
    places = prefix.positions.unsqueeze(-1).expand_as(prefix.keys)
    torch.testing.assert_close(prefix.keys, document.keys.gather(2, places))
    torch.testing.assert_close(prefix.values, document.values.gather(2, places))


@pytest.mark.parametrize("name", EVICTING + TEXTUAL)
def test_with_room_for_everything_it_is_the_full_document(any_model, name):
    """And, the control, with little room it is not."""
    reading = len(any_model.chat.reading(TEXT))
    rows = [Row(any_model.chat.asking(question), [90, 91, 92]) for question in QUESTIONS]
    full = torch.cat(list(any_model.given(whole(any_model)).score(rows)))
    far = {}
    for slots in (reading, 3):
        scores = {}
        for prefix, members in RIVALS[name].prepare(task_for(any_model, slots))(QUESTIONS):
            scores |= zip(members, any_model.given(prefix).score([rows[n] for n in members]), strict=True)
        far[slots] = float((torch.cat([scores[n] for n in range(len(rows))]) - full).abs().max())
    assert far[reading] < 1e-4
    if any(limits.sliding_window is None for limits in any_model.limits):
        assert far[3] > 1e-2


@pytest.mark.parametrize("name", UNTRAINED)
def test_questions_together_get_what_each_gets_alone(tiny_model, name):
    prepared = RIVALS[name].prepare(task_for(tiny_model))
    together = {}
    for prefix, members in prepared(QUESTIONS):
        together |= dict.fromkeys(members, prefix)
    assert sorted(together) == list(range(len(QUESTIONS)))
    for number, question in enumerate(QUESTIONS):
        ((alone, members),) = prepared([question])
        assert members == [0]
        torch.testing.assert_close(alone.keys, together[number].keys)
        assert torch.equal(alone.positions, together[number].positions)


@pytest.mark.parametrize("name", [name for name in UNTRAINED if name not in TEXTUAL])
def test_a_document_longer_than_the_window_is_refused_in_words(tiny_model, name):
    long = Document.from_text("the harbour closes at nine. " * 80)
    with pytest.raises(WindowError, match="window of llama is 256"):
        RIVALS[name].prepare(task_for(tiny_model, document=long))


@pytest.mark.parametrize("name", TEXTUAL)
def test_methods_that_read_parts_do_not_mind_a_long_document(tiny_model, name):
    long = Document.from_text("the harbour closes at nine. " * 80)
    for prefix, _ in RIVALS[name].prepare(task_for(tiny_model, document=long))(QUESTIONS):
        assert prefix.slots > template(tiny_model)


def test_every_rival_has_its_own_name_and_names_where_it_is_from():
    for name, rival in RIVALS.items():
        assert rival.name == name
        assert isinstance(rival, Rival)
        assert inspect.getdoc(type(rival))


def test_truncate_and_retrieve_read_these_tokens(tiny_model):
    chat = tiny_model.chat
    first = read_tokens(task_for(tiny_model), chat.encode_plainly(TEXT)[:SLOTS])
    torch.testing.assert_close(RIVALS["truncate"].prefix(task_for(tiny_model)).keys, first.keys)
    sentences = [
        "every lamp of this port is red. ",
        "a ferry of wood lies at anchor. ",
        "kestrels nest in april.",
    ]
    document = Document.from_text("".join(sentences))
    tokens = max(len(chat.encode_plainly(sentence)) for sentence in sentences)
    prepared = RIVALS["retrieve"].prepare(task_for(tiny_model, tokens, document))
    for prefix, members in prepared(["what lies at anchor?", "where do kestrels nest?"]):
        expected = chat.encode_plainly(sentences[1 + members[0]])
        torch.testing.assert_close(prefix.keys, read_tokens(task_for(tiny_model), expected).keys)


def test_streaming_keeps_four_sinks_and_the_latest(tiny_model):
    reading = len(tiny_model.chat.reading(TEXT))
    prefix = RIVALS["streaming"].prefix(task_for(tiny_model))
    expected = [0, 1, 2, 3, *range(reading - SLOTS + 4, reading)]
    assert prefix.positions.unique(dim=0).tolist()[0][0] == expected


def random_states(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_best_keeps_the_largest_in_order():
    keys = random_states(1, 2, 6, 3)
    prefix = Prefix(keys, keys, torch.arange(6).expand(1, 2, -1), 6)
    scores = torch.tensor([[[5.0, 1, 4, 0, 3, 2], [0, 1, 2, 3, 4, 5]]])
    assert best(prefix, scores, 3).positions.tolist() == [[[0, 2, 4], [3, 4, 5]]]


def test_keydiff_is_minus_the_cosine_with_the_mean_direction():
    keys = random_states(2, 2, 7, 5)
    found = difference(keys)
    for layer in range(2):
        for head in range(2):
            units = [key / key.norm() for key in keys[layer, head]]
            anchor = sum(units) / len(units)
            for place, unit in enumerate(units):
                assert float(found[layer, head, place]) == pytest.approx(
                    -float(unit @ anchor / anchor.norm())
                )


def test_snapkv_pools_with_two_neighbours_on_each_side():
    attention = random_states(1, 2, 9)
    padded = torch.cat([torch.zeros(1, 2, 2), attention, torch.zeros(1, 2, 2)], dim=-1)
    expected = sum(padded[..., shift : shift + 9] for shift in range(5)) / 5
    torch.testing.assert_close(pooled(attention), expected)


def test_attention_weights_are_those_of_the_model(any_model):
    """The squares of them add up to the importance that the attention function itself reports."""
    tokens = any_model.chat.reading(TEXT)
    document = any_model.prefill(tokens[:-7])
    importance = torch.zeros(document.positions.shape)
    queries = Queries()
    both = any_model.prefill(tokens[-7:], after=document, observe=queries)
    given = any_model.given(document)
    given.generate([tokens[-7:]], max_tokens=1, importance=importance)
    positions = torch.arange(len(tokens) - 7, len(tokens))
    for layer in range(any_model.layers):
        found = attention_weights(
            queries.states[layer],
            queries.scaling[layer],
            positions,
            both.layer(layer),
            any_model.limits[layer],
        )
        torch.testing.assert_close(found.sum(-1), torch.ones_like(found[..., 0]))
        squared = found[..., : document.slots].square().sum(dim=(1, 2)).float()
        torch.testing.assert_close(squared, importance[layer], rtol=1e-4, atol=1e-6)


def test_snapkv_keeps_its_window_and_what_the_window_attends_to(tiny_model):
    tokens = tiny_model.chat.reading(TEXT)
    prefix = RIVALS["snapkv"].prefix(task_for(tiny_model))
    queries = Queries()
    document = tiny_model.prefill(tokens, observe=queries)
    window, group = SLOTS // 2, 2
    for layer in range(tiny_model.layers):
        for kv in range(tiny_model.kv_heads):
            total = torch.zeros(len(tokens) - window, dtype=torch.float64)
            for head in range(kv * group, (kv + 1) * group):
                for at in range(len(tokens) - window, len(tokens)):
                    scores = (
                        queries.scaling[layer]
                        * document.keys[layer, kv, : at + 1]
                        @ queries.states[layer][at, head]
                    )
                    total += torch.softmax(scores, 0)[: len(total)]
            smooth = [float(total[max(0, n - 2) : n + 3].sum()) for n in range(len(total))]
            kept = sorted(range(len(smooth)), key=lambda n: -smooth[n])[: SLOTS - window]
            expected = sorted(kept) + list(range(len(tokens) - window, len(tokens)))
            assert prefix.positions[layer, kv].tolist() == expected
