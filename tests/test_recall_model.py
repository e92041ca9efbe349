"""The small test model: it answers from a document, and without one it guesses."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from precis.model.chat import Chat
from tests.make_recall_model import FOLDER, accuracy
from tests.recall import (
    NAMES,
    PHRASINGS,
    RELATIONS,
    VALUES,
    Fact,
    answer_text,
    document_text,
    make_facts,
    prefix_text,
    question_text,
    suffix_text,
)

DOCUMENTS = [make_facts(20, seed) for seed in range(7_000_000, 7_000_008)]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, local_files_only=True).eval()


def mean_accuracy(model, tokenizer, phrasing, *, document):
    shares = [accuracy(model, tokenizer, facts, phrasing, document=document) for facts in DOCUMENTS]
    return sum(shares) / len(shares)


@pytest.mark.parametrize("phrasing", range(len(PHRASINGS)))
def test_with_the_document_it_answers_and_without_it_guesses(model, tokenizer, phrasing):
    assert mean_accuracy(model, tokenizer, phrasing, document=True) >= 0.97
    assert mean_accuracy(model, tokenizer, phrasing, document=False) < 0.15


def test_another_document_does_not_help(model, tokenizer):
    other, asked = DOCUMENTS[0], [fact for fact in DOCUMENTS[1] if fact not in DOCUMENTS[0]]
    right = 0
    for fact in asked:
        text = prefix_text(document_text(other)) + suffix_text(question_text(fact, 0))
        tokens = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            right += tokenizer.decode(model(input_ids=tokens).logits[0, -1].argmax()) == answer_text(fact)
    assert right / len(asked) <= 0.25


def test_it_writes_the_answer_and_stops(model, tokenizer):
    facts = DOCUMENTS[0]
    text = prefix_text(document_text(facts)) + suffix_text(question_text(facts[0], 0))
    inputs = tokenizer(text, return_tensors="pt")
    written = model.generate(**inputs, max_new_tokens=8)[0, inputs["input_ids"].shape[1] :]
    assert tokenizer.decode(written) == f"{answer_text(facts[0])} {tokenizer.eos_token}"


def test_its_prompts_are_the_plain_form_of_precis(tokenizer):
    chat = Chat(tokenizer)
    document, question = document_text(DOCUMENTS[0]), question_text(DOCUMENTS[0][0], 1)
    for text in ("", document):
        whole = tokenizer.encode(prefix_text(text)) + tokenizer.encode(
            suffix_text(question), add_special_tokens=False
        )
        assert chat.document_prompt(text) + chat.question_prompt(question) == whole


def test_every_word_of_the_language_is_one_token(tokenizer):
    facts = [
        Fact(name, relation, value)
        for name in NAMES[:1]
        for relation in RELATIONS
        for value in VALUES[relation]
    ]
    questions = [question_text(fact, phrasing) for fact in facts for phrasing in range(len(PHRASINGS))]
    text = " ".join([prefix_text(document_text(facts)), *map(suffix_text, questions), *NAMES])
    assert tokenizer.unk_token_id not in tokenizer.encode(text, add_special_tokens=False)
    words = [*NAMES, *(value for values in VALUES.values() for value in values)]
    assert len(set(words)) == len(words), "a word is a name, or a value of one relation"
    assert tokenizer.decode(tokenizer.encode(" ".join(words), add_special_tokens=False)) == " ".join(words)


def test_facts_are_distinct_and_repeatable():
    facts = make_facts(30, seed=3)
    assert len({(fact.name, fact.relation) for fact in facts}) == 30
    assert len({fact.name for fact in facts}) <= 15
    assert facts == make_facts(30, seed=3) != make_facts(30, seed=4)
    with pytest.raises(ValueError, match="361"):
        make_facts(361, seed=0)


def test_the_folder_is_small():
    assert sum(file.stat().st_size for file in Path(FOLDER).iterdir()) < 2_000_000
