"""The official `openai` client against a real server, with documents that the small test model knows."""

import concurrent.futures
import json
from dataclasses import asdict

import openai
import pytest
import torch

from precis.artifact import Artifact
from precis.compiled import load
from precis.model.loading import load_model
from precis.text.recall import REFUSAL, recall
from tests.conftest import RECALL_MODEL
from tests.recall import answer_text, question_text
from tests.serve.running import facts_of, limits, recall_artifact, serving

DOCUMENTS = 3
# The document does not say: the model guesses.
UNSURE = "Which tree does nobody have?"


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(1)
    return load_model(str(RECALL_MODEL))


@pytest.fixture(scope="module")
def library(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    for number in range(DOCUMENTS):
        recall_artifact(model, number, keep_text=number != 2).save(folder / f"facts-{number}.precis")
    return folder


@pytest.fixture(scope="module")
def server(library, model):
    with serving(library, model, limits(choices=8, answer_tokens=64)) as running:
        yield running


@pytest.fixture
def client(server):
    return server.client()


def ask(client, question, model="facts-0", **settings):
    messages = [{"role": "user", "content": question}]
    return client.chat.completions.create(model=model, messages=messages, **settings)


def streamed(client, question, model="facts-0", **settings):
    return list(ask(client, question, model, stream=True, **settings))


def text_of(chunks, index=0):
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(delta.content or "" for delta in deltas)


def test_documents_are_models(client, server):
    listed = client.models.list()
    assert [one.id for one in listed] == ["facts-0", "facts-1", "facts-2"]
    one = client.models.retrieve("facts-1")
    assert one.object == "model"
    assert one.owned_by == "precis"
    assert one.precis["document"] == "facts-1.md"
    assert one.precis["text_kept"] is True
    assert one.precis["recall"] == 1
    assert one.precis["confidence"] is True
    other = client.models.retrieve("facts-2")
    assert (other.precis["text_kept"], other.precis["recall"]) == (False, 0)
    assert other.precis["confidence"] is True
    assert "Serving 3 documents" in server.announced[0]
    assert server.address in server.announced[0]


def test_answers_are_those_of_the_library_call(client, library, model):
    right = 0
    for number in range(DOCUMENTS):
        compiled = load(library / f"facts-{number}.precis", model)
        for fact in facts_of(number):
            question = question_text(fact, 1)
            found = ask(client, question, f"facts-{number}")
            said = compiled.ask(question)
            choice = found.choices[0]
            assert choice.message.content == said.text
            assert choice.finish_reason == said.finish_reason
            assert found.usage.completion_tokens == len(said.tokens)
            recalled = said.passages[0].text if number != 2 else ""
            assert found.usage.prompt_tokens == len(model.chat.question_prompt(question, recalled))
            assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens
            assert found.precis["confidence"] == pytest.approx(said.confidence, rel=1e-4)
            assert found.precis["positions"] == said.prompt_positions
            assert found.precis["prefix_bytes"] == said.prefix_bytes
            assert found.precis["from"] == "soft_prompt"
            assert found.precis["passages"] == [asdict(passage) for passage in said.passages]
            assert found.precis["recall"] == len(said.passages) == (number != 2)
            assert found.precis["withheld"] is None
            assert found.precis["answers"] == []
            assert 0 < found.precis["first_token_s"] <= found.precis["seconds"]
            right += said.text == answer_text(fact)
    assert right > 0.7 * 12 * DOCUMENTS


def test_a_stream_gives_the_same_answer(client):
    for fact in facts_of(0):
        question = question_text(fact, 2)
        whole = ask(client, question)
        chunks = streamed(client, question)
        assert text_of(chunks) == whole.choices[0].message.content
        assert chunks[0].choices[0].delta.role == "assistant"
        assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == whole.choices[0].finish_reason
        assert chunks[-1].precis["confidence"] == pytest.approx(whole.precis["confidence"], rel=1e-4)
        assert all(chunk.usage is None for chunk in chunks)
        assert {chunk.id for chunk in chunks} == {chunks[0].id}
        assert {chunk.model for chunk in chunks} == {"facts-0"}


def test_a_stream_tells_usage_where_that_is_asked_for(client):
    question = question_text(facts_of(0)[0], 2)
    chunks = streamed(client, question, stream_options={"include_usage": True})
    assert chunks[-1].choices == []
    assert chunks[-1].usage == ask(client, question).usage
    assert chunks[-1].precis["from"] == "soft_prompt"
    assert all(chunk.usage is None and not hasattr(chunk, "precis") for chunk in chunks[:-1])


def test_a_conversation_goes_on_after_the_soft_prompt(client, library, model):
    first, second = facts_of(0)[:2]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": question_text(first, 0)},
        {"role": "assistant", "content": answer_text(first)},
        {"role": "user", "content": [{"type": "text", "text": question_text(second, 0)}]},
    ]
    found = client.chat.completions.create(model="facts-0", messages=messages)
    from precis.model.chat import Turn

    turns = [Turn(question_text(first, 0), answer_text(first))]
    compiled = load(library / "facts-0.precis", model)
    # what was asked before tells what "it" may be
    recalled = recall(compiled.passages, question_text(second, 0), 1, before=question_text(first, 0))
    prompt = model.chat.conversation_prompt(turns, question_text(second, 0), "Be brief.", recalled.text)
    given = compiled._given
    said = given.generate([prompt], max_tokens=64)[0]
    assert found.choices[0].message.content == model.chat.decode(said.tokens)
    assert found.usage.prompt_tokens == len(prompt)
    assert found.precis["passages"] == [asdict(passage) for passage in recalled.passages]
    alone = model.chat.conversation_prompt(turns, question_text(second, 0), "Be brief.")
    slots = compiled.artifact.manifest.slots
    assert found.precis["positions"] == slots + len(prompt) - len(alone) > slots
    # what the client got can be sent back as it is
    messages += [found.choices[0].message, {"role": "user", "content": question_text(first, 3)}]
    again = client.chat.completions.create(model="facts-0", messages=messages)
    assert again.usage.prompt_tokens > found.usage.prompt_tokens


def test_many_documents_and_settings_at_once_give_what_they_give_alone(client, server):
    asked = [
        {
            "question": question_text(fact, place % 6),
            "model": f"facts-{number}",
            "temperature": [0, 1.5][place % 2],
            "seed": place,
            "n": 1 + place % 3,
            "max_tokens": 1 + place % 5,
        }
        for number in range(DOCUMENTS)
        for place, fact in enumerate(facts_of(number))
    ]

    def texts(settings):
        return [choice.message.content for choice in ask(client, **settings).choices]

    alone = [texts(settings) for settings in asked]
    steps = server.service.engine.steps
    for settings in asked:
        texts(settings)
    by_turns = server.service.engine.steps - steps
    with concurrent.futures.ThreadPoolExecutor(len(asked)) as pool:
        together = list(pool.map(texts, asked))
    assert together == alone
    # they shared their forward passes
    assert server.service.engine.steps - steps - by_turns < by_turns / 2


def test_n_answers_are_drawn_with_seeds_that_follow(client):
    settings = {"temperature": 2, "seed": 7, "max_tokens": 8}
    many = ask(client, UNSURE, n=4, **settings)
    assert [choice.index for choice in many.choices] == [0, 1, 2, 3]
    for number, choice in enumerate(many.choices):
        one = ask(client, UNSURE, temperature=2, seed=7 + number, max_tokens=8)
        assert one.choices[0].message.content == choice.message.content
    assert len({choice.message.content for choice in many.choices}) > 1
    chunks = streamed(client, UNSURE, n=4, **settings)
    assert [text_of(chunks, index) for index in range(4)] == [
        choice.message.content for choice in many.choices
    ]
    assert many.precis["confidence"] is None
    assert [chunk for chunk in chunks if hasattr(chunk, "precis")] == chunks[-1:]


def test_without_a_seed_answers_vary_and_with_one_they_do_not(client):

    def said(**settings):
        return ask(client, UNSURE, temperature=2, max_tokens=8, **settings).choices[0].message.content

    assert said(seed=-5) == said(seed=-5)
    assert len({said() for _ in range(12)}) > 1
    assert said(seed=3, top_p=0.0) == ask(client, UNSURE, max_tokens=8).choices[0].message.content


def test_a_limit_cuts_and_says_so(client):
    for name in ("max_tokens", "max_completion_tokens"):
        found = ask(client, question_text(facts_of(0)[0], 0), **{name: 1})
        assert found.choices[0].finish_reason == "length"
        assert found.usage.completion_tokens == 1


def test_log_probabilities_are_the_models(client, library, model):
    question = question_text(facts_of(0)[0], 0)
    compiled = load(library / "facts-0.precis", model)
    recalled = recall(compiled.passages, question).text
    said = compiled._given.generate([model.chat.question_prompt(question, recalled)], max_tokens=64, top_k=5)[
        0
    ]
    found = ask(client, question, logprobs=True, top_logprobs=5)
    content = found.choices[0].logprobs.content
    # the token that ends the answer is no part of it
    assert [token.token for token in content] == [model.tokenizer.decode([t]) for t in said.tokens[:-1]]
    for place, token in enumerate(content):
        assert token.logprob == pytest.approx(said.log_probabilities[place], abs=1e-3)
        assert bytes(token.bytes).decode() == token.token
        assert [top.logprob for top in token.top_logprobs] == pytest.approx(
            said.top_log_probabilities[place], abs=1e-3
        )
        assert token.top_logprobs[0].token == token.token
    chunks = streamed(client, question, logprobs=True, top_logprobs=5)
    parts = [choice.logprobs for chunk in chunks for choice in chunk.choices if choice.logprobs]
    assert [token.token for part in parts for token in part.content] == [t.token for t in content]
    plain = ask(client, question, logprobs=True)
    assert plain.choices[0].logprobs.content[0].top_logprobs == []
    assert ask(client, question).choices[0].logprobs is None


def test_completions_answer_one_question_or_several(client):
    questions = [question_text(fact, 0) for fact in facts_of(1)[::5]]
    one = client.completions.create(model="facts-1", prompt=questions[0])
    assert one.object == "text_completion"
    assert one.choices[0].text == ask(client, questions[0], "facts-1").choices[0].message.content
    many = client.completions.create(model="facts-1", prompt=questions, n=2, logprobs=2)
    assert [choice.index for choice in many.choices] == list(range(6))
    for number, question in enumerate(questions):
        alone = client.completions.create(model="facts-1", prompt=question, logprobs=2)
        for choice in many.choices[2 * number : 2 * number + 2]:
            assert choice.text == alone.choices[0].text
            logprobs = choice.logprobs
            assert "".join(logprobs.tokens).strip() == choice.text
            assert len(logprobs.token_logprobs) == len(logprobs.tokens) == len(logprobs.text_offset)
            assert logprobs.text_offset[0] == 0
            assert all(len(top) == 2 for top in logprobs.top_logprobs)
    answers = many.precis["answers"]
    assert [each["index"] for each in answers] == list(range(6))
    for number, question in enumerate(questions):
        alone = client.completions.create(model="facts-1", prompt=question)
        for each in answers[2 * number : 2 * number + 2]:
            assert each["passages"] == alone.precis["passages"]
            assert each["confidence"] == pytest.approx(alone.precis["confidence"], rel=1e-4)
            assert each["positions"] == alone.precis["positions"]
    assert len({each["passages"][0]["text"] for each in answers}) > 1
    assert many.precis["passages"] == answers[0]["passages"]
    chunks = list(client.completions.create(model="facts-1", prompt=questions[0], stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == one.choices[0].text
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_passages_are_what_an_answer_was_made_from(client, library, model):
    fact = facts_of(0)[4]
    question = question_text(fact, 0)
    found = ask(client, question, extra_body={"precis": {"recall": 2}})
    passages = found.precis["passages"]
    assert len(passages) == found.precis["recall"] == 2
    assert any(f"{fact.relation} of {fact.name} is {fact.value}" in one["text"] for one in passages)
    assert passages[0]["source"] == "facts-0.md"
    assert passages[0]["page"] == 1
    assert passages[0]["score"] >= passages[1]["score"]
    text = Artifact.open(library / "facts-0.precis").document().text
    assert all(text[one["start"] : one["end"]] == one["text"] for one in passages)
    in_order = " ".join(one["text"] for one in sorted(passages, key=lambda one: one["start"]))
    assert found.usage.prompt_tokens == len(model.chat.question_prompt(question, in_order))
    # the file's confidence was measured with one passage
    assert found.precis["confidence"] is None
    chunks = streamed(client, question, extra_body={"precis": {"recall": 2}})
    assert chunks[-1].precis["passages"] == passages
    off = ask(client, question, extra_body={"precis": {"recall": 0}})
    assert off.precis["passages"] == []
    assert off.usage.prompt_tokens == len(model.chat.question_prompt(question))
    assert off.precis["positions"] == Artifact.open(library / "facts-0.precis").manifest.slots
    assert off.precis["confidence"] is None


def test_a_question_without_a_word_of_the_document_recalls_nothing(client, model):
    found = ask(client, "Zzyzx?")
    assert found.precis["passages"] == []
    assert found.precis["recall"] == 1
    assert found.usage.prompt_tokens == len(model.chat.question_prompt("Zzyzx?"))


def test_an_answer_under_the_threshold_is_withheld(client, library, model):
    compiled = load(library / "facts-0.precis", model)
    question = question_text(facts_of(0)[0], 0)
    said = compiled.ask(question)
    for threshold, refused in ((said.confidence - 0.01, False), (min(1.0, said.confidence + 0.01), True)):
        settings = {"extra_body": {"precis": {"refuse_below": threshold}}}
        found = ask(client, question, logprobs=True, **settings)
        chunks = streamed(client, question, **settings)
        text = found.choices[0].message.content
        pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
        assert text == (REFUSAL if refused else said.text)
        assert [piece for piece in pieces if piece] == [text]
        for precis in (found.precis, chunks[-1].precis):
            assert precis["withheld"] == (said.text if refused else None)
            assert precis["confidence"] == pytest.approx(said.confidence, rel=1e-4)
            assert precis["passages"] == [asdict(passage) for passage in said.passages]
        assert bool(found.choices[0].logprobs.content) is not refused
        assert found.choices[0].finish_reason == "stop"
        assert text == compiled.ask(question, refuse_below=threshold).text
    several = client.completions.create(
        model="facts-0", prompt=[question, UNSURE], extra_body={"precis": {"refuse_below": 1}}
    )
    assert [choice.text for choice in several.choices] == [REFUSAL] * 2
    assert [one["withheld"] for one in several.precis["answers"]] == [
        ask(client, text).choices[0].message.content for text in (question, UNSURE)
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 1},
        {"extra_body": {"precis": {"refuse_below": 0.5, "from": "document"}}},
        {"extra_body": {"precis": {"refuse_below": 0.5, "recall": 3}}},
    ],
)
def test_refusing_needs_a_confidence(client, settings):
    settings = {"extra_body": {"precis": {"refuse_below": 0.5}}, **settings}
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, "What is the keeper of Milo?", **settings)
    assert refused.value.param == "precis.refuse_below"
    assert refused.value.code == "confidence_not_known"


def test_the_document_in_full_can_be_asked(client, model):
    facts = facts_of(0)
    for fact in facts[:4]:
        found = ask(client, question_text(fact, 0), extra_body={"precis": {"from": "document"}})
        assert found.choices[0].message.content == answer_text(fact)
        assert found.precis["from"] == "document"
        assert found.precis["confidence"] is None
        assert found.precis["passages"] == []
        assert found.precis["recall"] == 0
        assert found.precis["positions"] > ask(client, question_text(fact, 0)).precis["positions"]
        both = ask(client, question_text(fact, 0), extra_body={"precis": {"from": "document", "recall": 1}})
        (passage,) = both.precis["passages"]
        added = both.precis["positions"] - found.precis["positions"]
        assert added == both.usage.prompt_tokens - found.usage.prompt_tokens > 0
        assert passage["text"]


def test_errors_are_the_clients_own_exceptions(client):
    question = question_text(facts_of(0)[0], 0)
    with pytest.raises(openai.NotFoundError) as unknown:
        ask(client, question, "facts-9")
    assert "facts-0, facts-1, facts-2" in str(unknown.value)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("facts-9")
    with pytest.raises(openai.BadRequestError) as kept:
        ask(client, question, "facts-2", extra_body={"precis": {"recall": 1}})
    assert kept.value.param == "precis.recall"
    assert "with its text" in str(kept.value)
    with pytest.raises(openai.BadRequestError) as kept:
        ask(client, question, "facts-2", extra_body={"precis": {"from": "document"}})
    assert kept.value.param == "precis.from"


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"presence_penalty": -1}, "presence_penalty"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"store": True}, "store"),
        ({"extra_body": {"top_k": 5}}, "top_k"),
        ({"extra_body": {"precis": {"form": "document"}}}, "precis.form"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"n": 9}, "n"),
        ({"n": 0}, "n"),
        ({"max_tokens": 65}, "max_tokens"),
        ({"max_completion_tokens": 65}, "max_completion_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": [""]}, "stop[0]"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"extra_body": {"precis": {"recall": 21}}}, "precis.recall"),
        ({"extra_body": {"precis": {"recall": -1}}}, "precis.recall"),
        ({"extra_body": {"precis": {"passages": 1}}}, "precis.passages"),
        ({"extra_body": {"precis": {"refuse_below": 1.5}}}, "precis.refuse_below"),
        ({"seed": 2**63}, "seed"),
    ],
)
def test_what_is_not_supported_is_refused_by_its_name(client, settings, param):
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, "What?", **settings)
    assert refused.value.param == param
    assert param.split(".")[-1].split("[")[0] in str(refused.value)
    assert refused.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ([{"role": "user", "content": ""}], "messages[0]"),
        ([{"role": "assistant", "content": "x"}], "messages[0]"),
        ([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "messages[1]"),
        ([{"role": "user", "content": "x"}, {"role": "system", "content": "y"}], "messages[1]"),
        ([{"role": "tool", "content": "x", "tool_call_id": "1"}], "messages[0].role"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}],
            "messages[0].content[0].type",
        ),
        ([{"role": "user", "content": "x " * 600}], "messages"),
    ],
)
def test_conversations_that_cannot_be_answered_are_refused(client, messages, param):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="facts-0", messages=messages)
    assert refused.value.param == param


def test_values_that_say_nothing_pass(client):
    settings = {
        "tools": [],
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logit_bias": {},
        "n": 1,
        "top_p": 1,
        "user": "someone",
        "stop": None,
        "modalities": ["text"],
        "service_tier": "auto",
        "store": False,
        "parallel_tool_calls": True,
    }
    assert ask(client, "What is the keeper of Milo?", **settings).choices[0].message.content


def test_the_answer_is_plain_json_of_the_documented_fields(client):
    raw = client.chat.completions.with_raw_response.create(
        model="facts-0", messages=[{"role": "user", "content": "What is the keeper of Milo?"}]
    )
    answer = json.loads(raw.text)
    assert answer.keys() == {
        "id", "object", "created", "model", "system_fingerprint", "choices", "usage", "precis"
    }  # fmt: skip
    assert answer["precis"].keys() == {
        "confidence", "withheld", "recall", "passages", "answers", "from", "positions", "prefix_bytes",
        "first_token_s", "seconds"
    }  # fmt: skip
