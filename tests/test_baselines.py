"""Baselines: each keeps what it may, where it stood; with room for everything it is the full document."""

import dataclasses
import inspect
import re

import pytest
import torch

from precis.baselines import BASELINES, Task
from precis.baselines.baseline import Baseline, read_tokens
from precis.baselines.eviction import Eviction
from precis.baselines.expected_attention import FUTURE, expected, rotated_statistics
from precis.baselines.keydiff import difference
from precis.baselines.kvzip import REPEAT, KVzip, largest_attention
from precis.baselines.snapkv import pooled
from precis.compilation.progress import Progress
from precis.compilation.self_study import Study
from precis.compilation.settings import Settings
from precis.compilation.teacher import Teacher, teach
from precis.compilation.training import Schedule
from precis.errors import WindowError
from precis.evaluation.examination import Examination
from precis.evaluation.scoring import bootstrap_recovery
from precis.model.attention.observation import Queries, attention_weights
from precis.model.conditioned import Example
from precis.model.loading import load_model
from precis.model.prefix import Prefix
from precis.model.rotation import Rotation
from precis.model.selection import best_of_all, best_of_each_head
from precis.storage import WorkFolder
from precis.text.document import Document
from precis.text.questions import Question
from precis.text.spans import SPAN_TOKENS
from tests.conftest import RECALL_MODEL
from tests.recall import document_text, make_facts, question_text

TEXT = (
    "the harbour closes at nine, and the lamp is red. a ferry of wood lies at anchor. kestrels nest in april."
)
DOCUMENT = Document.from_text(TEXT)
QUESTIONS = ["what lies at anchor?", "when does it close?", "where do kestrels nest?"]
TRAINED = [name for name, baseline in BASELINES.items() if baseline.trains]
UNTRAINED = [name for name in BASELINES if name not in TRAINED]
EVICTING = [name for name, baseline in BASELINES.items() if isinstance(baseline, (Eviction, KVzip))]
TEXTUAL = ["truncate", "retrieve", "retrieve-x4"]  # they read parts of the document as text
SLOTS = 12


def task_for(model, slots=SLOTS, document=DOCUMENT):
    return Task(model, document, slots, Settings(slots=slots), None, Progress())


def whole(model):
    return model.prefill(model.chat.document_prompt(TEXT))


def template(model):
    return len(model.chat.document_prompt(""))


def weights(model):
    return [tensor.clone() for tensor in model.network.state_dict().values()]


@pytest.mark.parametrize("name", UNTRAINED)
def test_a_baseline_keeps_its_slots_and_leaves_the_model_alone(any_model, name):
    before, hooks = weights(any_model), len(any_model.network._forward_hooks)
    for prefix, _ in BASELINES[name].prepare(task_for(any_model))(QUESTIONS):
        heads = any_model.layers * any_model.kv_heads
        if name in EVICTING:
            assert prefix.shown == SLOTS * heads
            assert prefix.next_position == len(any_model.chat.document_prompt(TEXT))
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
    prefix = BASELINES[name].prefix(task_for(any_model))
    places = prefix.positions.unsqueeze(-1).expand_as(prefix.keys)
    torch.testing.assert_close(prefix.keys, document.keys.gather(2, places))
    torch.testing.assert_close(prefix.values, document.values.gather(2, places))


@pytest.mark.parametrize("name", EVICTING + TEXTUAL)
def test_with_room_for_everything_it_is_the_full_document(any_model, name):
    """And, the control, with little room it is not."""
    reading = len(any_model.chat.document_prompt(TEXT))
    rows = [Example(any_model.chat.question_prompt(question), [90, 91, 92]) for question in QUESTIONS]
    full = torch.cat(list(any_model.given(whole(any_model)).score(rows)))
    far = {}
    for slots in (reading, 3):
        scores = {}
        for prefix, members in BASELINES[name].prepare(task_for(any_model, slots))(QUESTIONS):
            scores |= zip(members, any_model.given(prefix).score([rows[n] for n in members]), strict=True)
        far[slots] = float((torch.cat([scores[n] for n in range(len(rows))]) - full).abs().max())
    assert far[reading] < 1e-4
    if any(limits.sliding_window is None for limits in any_model.limits):
        assert far[3] > 1e-2


@pytest.mark.parametrize("name", UNTRAINED)
def test_questions_together_get_what_each_gets_alone(tiny_model, name):
    prepared = BASELINES[name].prepare(task_for(tiny_model))
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
        BASELINES[name].prepare(task_for(tiny_model, document=long))


@pytest.mark.parametrize("name", TEXTUAL)
def test_methods_that_read_parts_do_not_mind_a_long_document(tiny_model, name):
    long = Document.from_text("the harbour closes at nine. " * 80)
    for prefix, _ in BASELINES[name].prepare(task_for(tiny_model, document=long))(QUESTIONS):
        assert prefix.slots > template(tiny_model)


def test_every_baseline_has_its_own_name_and_names_where_it_is_from():
    for name, baseline in BASELINES.items():
        assert baseline.name == name
        assert isinstance(baseline, Baseline)
        if name not in ("truncate", "retrieve-x4", "summary"):
            assert re.search(r"arXiv\s\d{4}\.\d{5}", inspect.getdoc(type(baseline)))


def test_truncate_and_retrieve_read_these_tokens(tiny_model):
    chat = tiny_model.chat
    first = read_tokens(task_for(tiny_model), chat.encode_plainly(TEXT)[:SLOTS])
    torch.testing.assert_close(BASELINES["truncate"].prefix(task_for(tiny_model)).keys, first.keys)
    sentences = [
        "every lamp of this port is red.",
        "a ferry of wood lies at anchor.",
        "kestrels nest in april.",
    ]
    document = Document.from_text("\n\n".join(sentences))
    tokens = max(len(chat.encode_plainly(sentence)) for sentence in sentences)
    prepared = BASELINES["retrieve"].prepare(task_for(tiny_model, tokens, document))
    for prefix, members in prepared(["what lies at anchor?", "where do kestrels nest?"]):
        expected = chat.encode_plainly(sentences[1 + members[0]])
        torch.testing.assert_close(prefix.keys, read_tokens(task_for(tiny_model), expected).keys)


def test_streaming_keeps_four_sinks_and_the_latest(tiny_model):
    reading = len(tiny_model.chat.document_prompt(TEXT))
    prefix = BASELINES["streaming"].prefix(task_for(tiny_model))
    expected = [0, 1, 2, 3, *range(reading - SLOTS + 4, reading)]
    assert prefix.positions.unique(dim=0).tolist()[0][0] == expected


def random_states(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_best_keeps_the_largest_in_order():
    keys = random_states(1, 2, 6, 3)
    prefix = Prefix(keys, keys, torch.arange(6).expand(1, 2, -1), 6)
    scores = torch.tensor([[[5.0, 1, 4, 0, 3, 2], [0, 1, 2, 3, 4, 5]]])
    assert best_of_each_head(scores, 3).of(prefix).positions.tolist() == [[[0, 2, 4], [3, 4, 5]]]


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
    tokens = any_model.chat.document_prompt(TEXT)
    document = any_model.prefill(tokens[:-7])
    importance = torch.zeros(document.positions.shape, device=any_model.device)
    queries = Queries()
    both = any_model.prefill(tokens[-7:], after=document, observe=queries)
    any_model.given(document).answer_logits([Example(tokens[-7:], [0])], importance=importance)
    positions = torch.arange(len(tokens) - 7, len(tokens), device=any_model.device)
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
    tokens = tiny_model.chat.document_prompt(TEXT)
    prefix = BASELINES["snapkv"].prefix(task_for(tiny_model))
    queries = Queries()
    document = tiny_model.prefill(tokens, observe=queries)
    window, group = SLOTS // 2, 2
    for layer in range(tiny_model.layers):
        for kv in range(tiny_model.kv_heads):
            total = torch.zeros(len(tokens) - window, dtype=torch.float64, device=tiny_model.device)
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


def test_rotating_and_taking_the_rotation_back_are_the_models_own(any_model):
    """The first layer's keys do not depend on the place, once the rotation is undone."""
    rotation = Rotation(any_model)
    tokens = any_model.chat.encode_plainly(TEXT)[:20]
    shifted = dataclasses.replace(any_model.empty_prefix(), next_position=37)
    here, there = any_model.prefill(tokens), any_model.prefill(tokens, after=shifted)
    plain = [
        rotation.undo(0, prefix.keys[0].transpose(0, 1), prefix.positions[0, 0]) for prefix in (here, there)
    ]
    torch.testing.assert_close(plain[0], plain[1], rtol=1e-4, atol=1e-5)
    assert float((here.keys[0] - there.keys[0]).abs().max()) > 0.1
    again = rotation.rotate(0, plain[0], there.positions[0, 0])
    torch.testing.assert_close(again, there.keys[0].transpose(0, 1), rtol=1e-4, atol=1e-5)


def test_the_mean_rotation_is_the_mean_of_rotated_states(any_model):
    rotation = Rotation(any_model)
    state = random_states(1, 1, any_model.head_dim).to(any_model.device)
    positions = torch.arange(40, 40 + FUTURE, device=any_model.device)
    for layer in range(any_model.layers):
        rotated = rotation.rotate(layer, state.expand(FUTURE, -1, -1), positions)
        matrix = rotation.mean_matrix(layer, positions, any_model.head_dim)
        torch.testing.assert_close(matrix @ state[0, 0], rotated.mean(0)[0])


def test_expected_attention_is_the_mean_exponential_of_normal_queries():
    """Against its definition, head by head, and its closed form against drawn queries."""
    states, rotation = random_states(30, 4, 3), torch.linalg.qr(random_states(3, 3)).Q
    keys, values = random_states(2, 9, 3), random_states(2, 9, 3) + 1
    mean, covariance = rotated_statistics(states, rotation)
    found = expected(keys, values, mean, covariance)
    for kv in range(2):
        likely = torch.zeros(5, dtype=torch.float64)
        for head in (2 * kv, 2 * kv + 1):
            queries = states[:, head] @ rotation.T
            spread = torch.cov(queries.T, correction=0)
            masses = torch.stack([(queries.mean(0) @ k + k @ spread @ k / 2).exp() for k in keys[kv, 4:]])
            likely += masses / masses.sum() / 2
        torch.testing.assert_close(found[kv, 4:], likely * values[kv, 4:].norm(dim=-1))
    draws = torch.distributions.MultivariateNormal(mean[0], covariance[0]).sample((200_000,))
    for key in 0.5 * keys[0, :3]:
        closed = (mean[0] @ key + key @ covariance[0] @ key / 2).exp()
        assert float((draws @ key).exp().mean()) == pytest.approx(float(closed), rel=0.05)


def test_kvzip_scores_by_the_largest_attention_of_the_repetition(tiny_model):
    document = whole(tiny_model)
    tokens = [*tiny_model.chat.question_prompt(REPEAT), *tiny_model.chat.encode_plainly(TEXT)][:40]
    found = largest_attention(tiny_model, document, tokens)
    queries = Queries()
    both = tiny_model.prefill(tokens, after=document, observe=queries)
    for layer in range(tiny_model.layers):
        for kv in range(tiny_model.kv_heads):
            largest = torch.zeros(document.slots, dtype=torch.float64, device=tiny_model.device)
            for head in (2 * kv, 2 * kv + 1):
                for number in range(len(tokens)):
                    keys = both.keys[layer, kv, : document.slots + number + 1]
                    scores = queries.scaling[layer] * keys @ queries.states[layer][number, head]
                    largest = torch.maximum(largest, torch.softmax(scores, 0)[: document.slots])
            torch.testing.assert_close(found[layer, kv], largest.float())


def test_kvzip_repeats_a_long_document_in_chunks_each_announced(tiny_model, monkeypatch):
    repeated = []

    def record(model, document, tokens):
        repeated.append(tokens)
        return largest_attention(model, document, tokens)

    monkeypatch.setattr("precis.baselines.kvzip.CHUNK", 20)
    monkeypatch.setattr("precis.baselines.kvzip.largest_attention", record)
    prefix = BASELINES["kvzip"].prefix(task_for(tiny_model))
    assert prefix.shown == SLOTS * tiny_model.layers * tiny_model.kv_heads
    chat = tiny_model.chat
    document = chat.encode_plainly(TEXT)
    chunks = [document[start : start + 20] for start in range(0, len(document), 20)]
    assert len(repeated) == len(chunks) > 2
    assert all(tokens[-len(chunk) :] == chunk for tokens, chunk in zip(repeated, chunks, strict=True))
    assert chat.decode(chunks[0][-8:]) in chat.decode(repeated[1][:-20])


def test_one_threshold_for_all_heads_keeps_the_best_of_all_and_every_sink():
    keys = random_states(2, 2, 12, 3)
    prefix = Prefix(keys, keys, torch.arange(12).expand(2, 2, -1), 12)
    scores = random_states(2, 2, 12).abs()
    scores[1, 0] /= 100
    kept = best_of_all(scores, 6, 4).of(prefix)
    assert kept.shown == 6 * 4
    places = [
        set(kept.positions[layer, head][kept.bias[layer, head] == 0].tolist())  # type: ignore[index]
        for layer in range(2)
        for head in range(2)
    ]
    assert all({0, 1, 2, 3} <= each for each in places)
    assert places[2] == {0, 1, 2, 3}
    best_scores = scores[..., 4:].flatten().topk(6 * 4 - 4 * 4).values
    found = [scores.view(4, 12)[n, place] for n, each in enumerate(places) for place in each if place > 3]
    assert sorted(map(float, found)) == sorted(best_scores.tolist())


def test_hidden_slots_change_nothing(any_model):
    """The padding of heads that hold fewer keys is as if it were not there."""
    document = whole(any_model)
    some = document.select(
        torch.arange(30, device=any_model.device).expand(any_model.layers, any_model.kv_heads, -1)
    )
    bias = torch.zeros_like(document.keys[..., 0])
    bias[..., 30:] = -torch.inf
    padded = dataclasses.replace(document, bias=bias)
    rows = [Example(any_model.chat.question_prompt(question), [90, 91, 92]) for question in QUESTIONS]
    found, expected_scores = (torch.cat(list(any_model.given(p).score(rows))) for p in (padded, some))
    torch.testing.assert_close(found, expected_scores)
    assert padded.shown == some.shown < document.shown


@pytest.fixture
def recall(monkeypatch):
    """The small trained model, and questions in place of those that it would write."""
    model, facts = load_model(str(RECALL_MODEL)), make_facts(16, seed=11)
    asked = [Question(question_text(fact, n)) for fact in facts for n in (0, 2, 4)]
    monkeypatch.setattr("precis.compilation.self_study.self_study", lambda *_, **__: Study(asked))
    return model, Document.from_text(document_text(facts)), [question_text(fact, 3) for fact in facts]


def recoveries(model, document, questions, slots, names, work):
    settings = Settings(
        slots=slots, schedule=Schedule(epochs=20, batch_size=12, learning_rate=5e-2, patience=99)
    )
    task = Task(model, document, slots, settings, work, Progress())
    prepared = {name: BASELINES[name].prepare(task) for name in names}
    asked = Examination(model, document, [Question(text) for text in questions]).compare(
        prepared, answers=False
    )
    return {name: bootstrap_recovery(asked, name)[0] for name in names}


def test_trained_baselines_learn_and_leave_the_model_alone(recall, tmp_path):
    model, document, questions = recall
    before = weights(model)
    found = recoveries(model, document, questions, 24, TRAINED, tmp_path)
    assert all(torch.equal(*pair) for pair in zip(before, weights(model), strict=True))
    assert all(recovery > 0.2 for recovery in found.values())


def test_selections_that_look_at_the_document_beat_what_does_not(recall, tmp_path):
    """On a model that does read: BM25 finds the fact that is asked for, the first tokens seldom hold it."""
    found = recoveries(*recall, 24, ["truncate", "retrieve", "retrieve-x4", "kvzip", "streaming"], tmp_path)
    assert found["retrieve"] > found["truncate"] + 0.2
    assert found["kvzip"] > found["streaming"]


def test_a_teacher_can_read_chunks_of_a_document_that_fits_its_window(recall, tmp_path):
    model, _, _ = recall
    facts = make_facts(44, seed=12)
    document = Document.from_text(document_text(facts))
    questions = [question_text(fact, 3) for fact in facts[::6]]
    whole_teacher = Teacher(model, document)
    chunked = Teacher(model, document, reading_tokens=SPAN_TOKENS, top_k=20)
    assert whole_teacher.reads_whole
    assert chunked.fits_window
    assert not chunked.reads_whole
    assert len(chunked.readings) > 1
    for reading in chunked.readings:
        assert reading.text in document.text
        assert model.chat.document_tokens(reading.text) <= SPAN_TOKENS
    assert document.text.endswith(chunked.readings[-1].text)
    taught = teach(chunked, [Question(text) for text in questions], WorkFolder(tmp_path))
    assert {gold.top_ids.shape[1] for gold in taught.golds} == {20}


def test_first_tokens_starts_where_the_document_starts(recall, tmp_path):
    model, document, _ = recall
    settings = Settings(slots=24, schedule=Schedule(epochs=0))
    prefix = BASELINES["first-tokens"].prefix(Task(model, document, 24, settings, tmp_path, Progress()))
    start = model.prefill(model.chat.document_prompt(document.text)[:24])
    torch.testing.assert_close(prefix.keys, start.keys, rtol=1e-4, atol=1e-4)
    assert prefix.next_position == prefix.slots == 24
