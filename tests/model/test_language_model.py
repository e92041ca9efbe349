"""The frozen model: conditioning on a prefix equals reading the whole sequence."""

import copy
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from precis.errors import ModelError, QuestionsError
from precis.model.attention import dispatch, kernels
from precis.model.attention.layout import LayerLimits
from precis.model.conditioned import Example
from precis.model.decoding import Decoder, Request, Sampling
from precis.model.language_model import LanguageModel
from tests.conftest import RECALL_MODEL, make_model, make_network, make_tokenizer

DOCUMENT = list(range(20, 50))
QUESTIONS = [[60, 61, 62], [70], [80, 81, 82, 83, 84]]


def plain_logits(model, tokens):
    """Logits of the same weights in transformers' own attention, over the whole sequence."""
    network = copy.deepcopy(model.network)
    network.set_attn_implementation("eager")
    return network(torch.tensor([tokens], device=model.device)).logits[0]


def test_given_the_documents_own_prefix_the_logits_are_those_of_the_full_context(any_model):
    given = any_model.given(any_model.prefill(DOCUMENT))
    rows = [Example(question, [90, 91, 92]) for question in QUESTIONS]
    found = given.answer_logits(rows)
    expected = []
    for row in rows:
        tokens = DOCUMENT + row.tokens
        expected.append(plain_logits(any_model, tokens)[-len(row.answer) :])
    torch.testing.assert_close(found, torch.cat(expected).float(), rtol=1e-4, atol=1e-4)


def test_reading_in_two_parts_equals_reading_at_once(any_model):
    whole = any_model.prefill(DOCUMENT)
    parts = any_model.prefill(DOCUMENT[11:], after=any_model.prefill(DOCUMENT[:11]))
    torch.testing.assert_close(parts.keys, whole.keys)
    torch.testing.assert_close(parts.values, whole.values)
    assert parts.next_position == whole.next_position == len(DOCUMENT)


def test_batched_generation_equals_one_by_one_and_transformers_own(any_model):
    given = any_model.given(any_model.prefill(DOCUMENT))
    together = given.generate(QUESTIONS, max_tokens=12, top_k=3)
    for question, generation in zip(QUESTIONS, together, strict=True):
        alone = given.generate([question], max_tokens=12)[0]
        streamed = [token.id for token in given.stream(question, max_tokens=12)]
        assert generation.tokens == alone.tokens == streamed
        tokens = DOCUMENT + question
        for place, token in enumerate(generation.tokens):
            logits = torch.log_softmax(plain_logits(any_model, tokens)[-1], -1)
            assert token == int(logits.argmax())
            assert generation.top_ids[place][0] == token
            assert generation.top_log_probabilities[place] == pytest.approx(
                logits.topk(3).values.tolist(), rel=1e-3, abs=1e-4
            )
            tokens = [*tokens, token]


def test_many_rows_through_few_places_equal_single_ones(tiny_model, monkeypatch):
    monkeypatch.setattr("precis.model.decoding.ROWS_AT_ONCE", 3)
    given = tiny_model.given(tiny_model.prefill(DOCUMENT))
    questions = [[20 + n] * (1 + n % 4) for n in range(11)]
    many = given.generate(questions, max_tokens=9)
    assert [generation.tokens for generation in many] == [
        given.generate([question], max_tokens=9)[0].tokens for question in questions
    ]


def mixed_requests(model):
    """Requests after three prefixes of different lengths, one of them with biases, in no order."""
    whole = model.prefill(DOCUMENT)
    places = torch.arange(0, 30, 4, device=model.device).expand(model.layers, model.kv_heads, -1)
    short = whole.select(places)
    draw = torch.Generator().manual_seed(3)
    bias = torch.randn(short.keys.shape[:3], generator=draw, dtype=torch.float64).to(model.device)
    bias[:, 0, 5:] = -torch.inf
    prefixes = [whole, replace(short, bias=bias), model.prefill(list(range(100, 107)))]
    return [
        Request(
            prefixes[n * 5 // 2 % 3], [20 + n] * (1 + n % 4), 4 + n % 5, top_k=n % 3, entropies=n % 2 == 0
        )
        for n in range(11)
    ]


def test_rows_after_different_prefixes_equal_rows_alone(any_model, monkeypatch):
    requests = mixed_requests(any_model)
    alone = [any_model.generate([request])[0] for request in requests]
    for places in (3, 96):
        monkeypatch.setattr("precis.model.decoding.ROWS_AT_ONCE", places)
        for one, other in zip(any_model.generate(requests), alone, strict=True):
            assert one.tokens == other.tokens
            assert one.top_ids == other.top_ids
            for name in ("log_probabilities", "entropies"):
                assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-4, abs=1e-5)


def test_what_a_row_samples_does_not_depend_on_the_rows_beside_it(tiny_model):
    requests = [
        replace(request, sampling=Sampling(1.3, seed=number))
        for number, request in enumerate(mixed_requests(tiny_model))
    ]
    together = [generation.tokens for generation in tiny_model.generate(requests)]
    assert together == [tiny_model.generate([request])[0].tokens for request in requests]
    greedy = [generation.tokens for generation in tiny_model.generate(mixed_requests(tiny_model))]
    assert together != greedy


def test_samples_follow_the_nucleus(tiny_model):
    prefix = tiny_model.prefill(DOCUMENT)
    scores = next(tiny_model.given(prefix).score([Example([60], [0])]))[0]
    order = scores.exp().sort(descending=True)
    nucleus = order.indices[: int((order.values.cumsum(0) < 0.5).sum()) + 1]
    requests = [Request(prefix, [60], 1, Sampling(1.0, top_p=0.5, seed=seed)) for seed in range(300)]
    drawn = [generation.tokens[0] for generation in tiny_model.generate(requests)]
    assert set(drawn) <= set(nucleus.tolist())
    expected = scores.exp()[nucleus[0]] / scores.exp()[nucleus].sum()
    assert drawn.count(int(nucleus[0])) / 300 == pytest.approx(float(expected), abs=0.1)


def test_at_top_p_1_the_whole_vocabulary_is_drawn_from(tiny_model):
    prefix = tiny_model.prefill(DOCUMENT)
    scores = next(tiny_model.given(prefix).score([Example([60], [0])]))[0]
    likely = torch.softmax(scores / 20, -1)
    requests = [Request(prefix, [60], 1, Sampling(20.0, top_p=1.0, seed=seed)) for seed in range(400)]
    drawn = [generation.tokens[0] for generation in tiny_model.generate(requests)]
    beyond = set(likely.topk(64).indices.tolist())
    share = sum(token not in beyond for token in drawn) / len(drawn)
    assert share == pytest.approx(1 - float(likely.topk(64).values.sum()), abs=0.1)


def test_a_decoder_with_little_memory_takes_fewer_rows_and_writes_the_same(any_model):
    requests = mixed_requests(any_model)
    requests += [Request(requests[0].prefix, list(range(30, 90)), 50), *mixed_requests(any_model)]
    alone = [any_model.generate([request])[0].tokens for request in requests]
    decoder, done, most = Decoder(any_model, memory=130), {}, 0
    for request in requests:
        decoder.submit(request)
    while decoder.waiting or decoder.active:
        decoder.advance()
        most = max(most, len(decoder.active))
        if len(decoder.active) > 1:
            assert decoder._cache.keys.shape[1] * decoder._cache.keys.shape[3] <= 130
            assert decoder._stack is None or decoder._stack.slots * len(decoder._members) <= 130
        done |= {row.number: row.generation.tokens for row in decoder.retire()}
    assert [done[number] for number in range(len(requests))] == alone
    assert 1 < most < 10
    decoder.rest()
    assert decoder._cache is None


def test_a_decoder_takes_in_and_drops_requests_at_any_time(tiny_model):
    requests = mixed_requests(tiny_model)
    alone = [tiny_model.generate([request])[0].tokens for request in requests]
    decoder, done = Decoder(tiny_model, places=4), {}
    for number, request in enumerate(requests):
        assert decoder.submit(request) == number
        decoder.advance()
        done |= {row.number: row.generation.tokens for row in decoder.retire()}
        if number == 6:
            decoder.drop(5)
            decoder.drop(6)
            decoder.drop(0)
    while decoder.waiting or decoder.active:
        decoder.advance()
        done |= {row.number: row.generation.tokens for row in decoder.retire()}
    assert done == {number: tokens for number, tokens in enumerate(alone) if number in done}
    assert set(range(11)) - {5, 6} <= done.keys()


def test_a_stop_token_ends_a_row_and_a_limit_the_rest(tiny_model):
    given = tiny_model.given(tiny_model.prefill(DOCUMENT))
    free = given.generate(QUESTIONS, max_tokens=12)
    stop = free[0].tokens[3]
    model = copy.copy(tiny_model)
    model.chat = copy.copy(tiny_model.chat)
    model.chat.stop_tokens = frozenset({stop})
    for before, after in zip(free, model.given(given.prefix).generate(QUESTIONS, max_tokens=12), strict=True):
        end = before.tokens.index(stop) + 1 if stop in before.tokens else 12
        assert after.tokens == before.tokens[:end]
        assert after.finished == (stop in before.tokens)


def test_scores_are_the_log_probabilities_of_generation(tiny_model):
    given = tiny_model.given(tiny_model.prefill(DOCUMENT))
    generations = given.generate(QUESTIONS, max_tokens=6)
    rows = [Example(question, g.tokens) for question, g in zip(QUESTIONS, generations, strict=True)]
    for row, generation, scores in zip(rows, generations, given.score(rows), strict=True):
        found = scores.gather(1, torch.tensor(row.answer, device=scores.device).unsqueeze(1)).squeeze(1)
        assert found.tolist() == pytest.approx(generation.log_probabilities, rel=1e-4, abs=1e-5)


def test_sampling_is_reproducible_and_differs_by_seed(tiny_model):
    given = tiny_model.given(tiny_model.prefill(DOCUMENT))
    draws = [
        [g.tokens for g in given.generate(QUESTIONS, max_tokens=8, sampling=Sampling(1.0, seed=seed))]
        for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_embeddings_of_tokens_read_like_the_tokens(any_model):
    by_tokens = any_model.prefill(DOCUMENT)
    by_embeddings = any_model.prefill(any_model.embed(DOCUMENT))
    torch.testing.assert_close(by_embeddings.keys, by_tokens.keys)


def test_what_does_not_fit_the_window_is_refused(tiny_model):
    with pytest.raises(ModelError, match=r"300 tokens do not fit the window .* 256"):
        tiny_model.prefill([5] * 300)
    given = tiny_model.given(tiny_model.prefill(DOCUMENT))
    with pytest.raises(QuestionsError, match="does not fit"):
        given.generate([[5] * 230], max_tokens=5)


def test_a_window_that_ends_early_shortens_the_answer(tiny_model):
    given = tiny_model.given(tiny_model.prefill([5] * 250))
    assert len(given.generate([[6, 7]], max_tokens=50)[0].tokens) <= 4


def test_a_network_with_layers_that_bypass_the_interface_is_refused():
    tokenizer = make_tokenizer()
    network = make_network("llama", len(tokenizer))
    network.set_attn_implementation("eager")
    with pytest.raises((ModelError, TypeError)):
        LanguageModel("eager", network, tokenizer)


def test_the_digest_knows_one_changed_tensor_and_not_the_precision():
    model, same = make_model(), make_model()
    assert model.digest == same.digest
    half = LanguageModel.wrap(copy.deepcopy(model.network).to(torch.bfloat16), model.tokenizer)
    assert half.digest == model.digest
    changed = copy.deepcopy(model.network)
    with torch.no_grad():
        changed.model.layers[1].mlp.up_proj.weight.mul_(1.01)
    assert LanguageModel("changed", changed, model.tokenizer).digest != model.digest


def test_with_no_prefix_at_all_rows_stand_alone(any_model):
    given = any_model.given(any_model.empty_prefix())
    found = given.answer_logits([Example(question, [90, 91]) for question in QUESTIONS])
    expected = [plain_logits(any_model, [*question, 90])[-2:] for question in QUESTIONS]
    torch.testing.assert_close(found, torch.cat(expected).float(), rtol=1e-4, atol=1e-4)


def test_streaming_leaves_the_callers_gradients_on(tiny_model):
    stream = tiny_model.given(tiny_model.prefill(DOCUMENT)).stream([60], max_tokens=3)
    next(stream)
    assert torch.is_grad_enabled()


def test_the_fused_kernel_gives_what_plain_products_give(any_model, monkeypatch):
    """Scores and answers alike; gradients never go through it."""
    document = any_model.prefill(list(range(3, 60)))
    rows = [Example(list(question), [90, 91, 92]) for question in QUESTIONS]
    calls = []
    fused = kernels._with_fused_prefix

    def counted(*given):
        calls.append(given)
        return fused(*given)

    monkeypatch.setattr(kernels, "_with_fused_prefix", counted)
    plain = list(any_model.given(document).score(rows))
    said = any_model.given(document).generate(QUESTIONS, max_tokens=6)
    assert not calls
    monkeypatch.setattr(dispatch, "FEWEST_FUSED", 1)
    found = list(any_model.given(document).score(rows))
    full_layers = [limits == LayerLimits(None, None) for limits in any_model.limits]
    assert bool(calls) == any(full_layers)
    for one, other in zip(found, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    again = any_model.given(document).generate(QUESTIONS, max_tokens=6)
    assert [each.tokens for each in again] == [each.tokens for each in said]
    calls.clear()
    with monkeypatch.context() as patch:  # a version of PyTorch that names it otherwise
        patch.setattr("precis.model.attention.fused.OPERATIONS", {"cpu": "gone", "cuda": "gone"})
        assert len(list(any_model.given(document).score(rows))) == len(rows)
        assert not calls
    any_model.given(document).answer_logits(rows)
    assert not calls


def test_a_loaded_model_is_wrapped_frozen_and_says_the_same(device):
    network = make_network("llama", len(make_tokenizer())).to(device)
    tokens = torch.tensor([DOCUMENT + QUESTIONS[0]], device=device)
    with torch.no_grad():
        expected = network(tokens).logits[0, -1].float()
    model = LanguageModel.wrap(network, make_tokenizer())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    scores = next(model.given(model.prefill(DOCUMENT)).score([Example(QUESTIONS[0], [1])]))
    torch.testing.assert_close(scores[0], expected.log_softmax(-1))
    network.set_attn_implementation("sdpa")  # and is given back
    with torch.no_grad():
        torch.testing.assert_close(network(tokens).logits[0, -1].float(), expected)


def test_importing_and_loading_leave_transformers_logging_as_it_is():
    code = (
        "from transformers.utils import logging\nbefore = logging.get_verbosity()\nimport precis\n"
        f"precis.load_model({str(RECALL_MODEL)!r})\n"
        "assert logging.get_verbosity() == before and logging.is_progress_bar_enabled()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
