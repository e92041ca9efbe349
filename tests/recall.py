"""The language of the small test model: invented places, one fact a sentence, questions on them.

A document is a run of sentences such as "The harbour of Milo is green. The keeper of Sora is Anda.".
A fact is found by its place *and* its relation, since places have several facts and relations have
several places; its value is one word out of the relation's own 16. So a reader of the document can
answer every question, and without it one answer in 16 is right by chance.

`make_recall_model.py` trains the model in `recall_model/` on this language; tests make fresh
documents with it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words("""
    Milo Sora Taru Veld Okin Brana Celo Drune Esko Falm Gavi Hesta
    Irun Jolm Kesh Luma Marn Nolo Orsa Pell Quen Rivo Stell Tolm
    Ulva Varn Wesk Xano Yeld Zora Abrin Belt Cord Dasca Elno Fird
    Grun Halva Ister Jarl Koro Lend Mosk Nerva Ostel Pirn Quill Rusk
    Savo Tern Urso Vinta Wold Xeru Yanna Zelt Arvo Brisk Corin Delm
""")

VALUES = {
    "harbour": _words("""
        green red blue white black yellow grey brown
        pink purple orange silver golden scarlet ivory teal
    """),
    "keeper": _words("""
        Anda Boris Clara David Edith Frank Greta Henry
        Irene Jonas Karla Louis Maria Nadia Oscar Paula
    """),
    "stone": _words("""
        granite marble slate basalt flint jade opal amber
        quartz chalk onyx ruby topaz garnet agate pearl
    """),
    "tree": _words("""
        oak ash elm birch pine cedar willow maple
        beech larch poplar rowan alder holly hazel cypress
    """),
    "beast": _words("""
        wolf bear fox otter badger stag hare lynx
        boar goat horse owl eagle heron raven swan
    """),
    "trade": _words("""
        baker smith weaver potter mason tanner cooper fisher
        miller dyer glazier tailor cobbler brewer joiner printer
    """),
}

RELATIONS = tuple(VALUES)

PHRASINGS: tuple[str, ...] = (
    "What is the {relation} of {name}?",
    "Tell me the {relation} of {name}.",
    "{name}: which {relation}?",
    "Which {relation} does {name} have?",
    "Name the {relation} that belongs to {name}.",
    "For {name}, what is its {relation}?",
)


@dataclass(frozen=True)
class Fact:
    """One sentence of a document: the `relation` of the place `name` is `value`."""

    name: str
    relation: str
    value: str


def make_facts(count: int, seed: int, relations: Sequence[str] = RELATIONS) -> list[Fact]:
    """Draw `count` facts with distinct (name, relation) pairs; the same seed gives the same facts.

    There are half as many places as facts, where the relations allow it: so most places have several
    facts, and the place alone does not tell which sentence a question is about.
    """
    if not 0 <= count <= len(NAMES) * len(relations):
        raise ValueError(f"there are 0 to {len(NAMES) * len(relations)} distinct facts, not {count}")
    draw = random.Random(seed)
    fewest_places = math.ceil(count / len(relations))
    places = draw.sample(NAMES, min(len(NAMES), max(math.ceil(count / 2), fewest_places)))
    pairs = [(name, relation) for name in places for relation in relations]
    return [
        Fact(name, relation, draw.choice(VALUES[relation])) for name, relation in draw.sample(pairs, count)
    ]


def document_text(facts: list[Fact]) -> str:
    """Write the facts down, one sentence each, in their order."""
    return " ".join(f"The {fact.relation} of {fact.name} is {fact.value}." for fact in facts)


def question_text(fact: Fact, phrasing: int) -> str:
    """Ask for the fact's value in one of the `PHRASINGS`."""
    return PHRASINGS[phrasing].format(relation=fact.relation, name=fact.name)


def answer_text(fact: Fact) -> str:
    """Give the right answer: the value alone."""
    return fact.value


def prefix_text(document: str) -> str:
    """Write what stands before the question.

    This is the form `precis.chat` gives to a model without a chat template. It is repeated here, since the
    model is trained on exactly these words: where the two differ, the tests of the model say so.
    """
    return f"Answer the question from the document.\n\nDocument:\n{document}"


def suffix_text(question: str) -> str:
    """Write what stands between the document and the answer."""
    return f"\n\nQuestion: {question}\nAnswer:"
