"""The page: all that it must show is there, and nothing that it is given is taken for markup."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from precis.confidence import reliability
from precis.document import Document
from precis.evaluation import Asked, MethodAnswer, MethodScores, Report
from precis.report_page import differences, page

HOSTILE = "<script>alert('&amp;')</script><img src=x onerror=alert(1)>\" onclick=\"x"
DOCUMENT = Document.from_text("The harbour of Milo is green. " * 20 + HOSTILE, "harbour.md")
VOID = ("br", "hr", "img", "input", "link", "meta")


def scores(recovery, size=1000, **changes):
    values = dict.fromkeys(("nll", "kl", "top1", "match", "em", "f1", "first_token_s", "tokens_per_s"), 0.5)
    plain = MethodScores(recovery, (recovery - 0.1, recovery + 0.1), **values, **{
        "prompt_positions": size, "prefix_bytes": size, "failures": 0,
    })  # fmt: skip
    return replace(plain, **changes)


def asked(number, *, gap, confidence=0.5, said="The keeper is Anda", text="Question {} of {}?"):
    return Asked(
        text.format(number, "Milo"),
        ["Anda"],
        4,
        (number * 97) % len(DOCUMENT.text),
        {
            "none": MethodAnswer("nobody", 8.0, 1.0, 1, 0.0),
            "full": MethodAnswer("the keeper Anda", 2.0, 0.0, 4, 1.0),
            "precis": MethodAnswer(said, 2.0 + gap, 0.5, 2, 0.8, confidence),
            "kvzip": MethodAnswer("Boris", 5.0, 0.5, 2, 0.0),
        },
    )


@pytest.fixture
def report():
    records = [asked(number, gap=number / 4, confidence=0.95 - number / 20) for number in range(16)]
    confidences = [record.methods["precis"].confidence for record in records]
    return Report(
        model="tiny",
        document="harbour.md",
        questions=17,
        ratio=20.0,
        recovery=0.69,
        methods={
            "none": scores(0.0, 100),
            "full": scores(1.0, 20000),
            "precis": scores(0.69),
            "kvzip": scores(0.5),
            "bad": scores(-3.0),
            "failed": MethodScores(*[None] * 12, failures=17, reason="too long for the window"),
        },
        asked=[*records, Asked("Too long a question?", [], 0, 0, {})],
        reliability=reliability(confidences, [number < 9 for number in range(16)]),
    )


class Reader(HTMLParser):
    """Notes elements, attributes and text, and that what is opened is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def test_every_question_and_method_is_there_the_worst_first(report):
    found = Reader(page(report, DOCUMENT)).text
    for record in report.asked:
        assert record.question in found
    questions = found[found.index("All questions, the worst") :]
    places = [questions.index(f"Question {number} of") for number in range(16)]
    assert places == sorted(places, reverse=True)
    for name in report.methods:
        assert name in found
    assert "keeps 69 % of what reading the document adds" in found
    assert "kvzip, keeps less: 50 %" in found
    assert "too long for the window" in found
    assert "1 question without a result" in found


def test_nothing_is_fetched_from_elsewhere(report):
    reader = Reader(page(report, DOCUMENT))
    assert not {"link", "img", "iframe", "object"} & set(reader.tags)
    targets = [value for name, value in reader.attributes if name in ("src", "href", "xlink:href", "action")]
    assert targets
    assert all(value.startswith("#") for value in targets)
    assert "url(" not in page(report, DOCUMENT)
    assert "@import" not in page(report, DOCUMENT)


def test_all_text_is_escaped(report):
    plain = Reader(page(report, DOCUMENT))
    records = [
        replace(
            asked(number, gap=0.5, said=HOSTILE),
            question=f"{HOSTILE} {number}",
            humans=[HOSTILE],
            place=DOCUMENT.text.index("<script>"),
        )
        for number in range(16)
    ]
    hostile = replace(
        report,
        model=HOSTILE,
        document=HOSTILE,
        asked=[*records, Asked(HOSTILE, [], 0, 0, {})],
        methods={**report.methods, HOSTILE: scores(0.2, reason=HOSTILE)},
    )
    text = page(hostile, DOCUMENT)
    reader = Reader(text)
    assert "alert(1)" in text
    assert text.count("<script>") == 1
    assert reader.tags.count("script") == plain.tags.count("script") == 1
    assert "img" not in reader.tags
    assert not [name for name, _ in reader.attributes if name.startswith("on")]


def test_without_rivals_confidence_answers_or_recovery_it_is_a_page_all_the_same(report):
    records = [
        replace(
            record,
            methods={
                name: replace(record.methods[name], text=None if name == "precis" else "x")
                for name in ("none", "full", "precis")
            },
        )
        for record in report.asked[:2]
    ]
    few = {name: replace(report.methods[name], recovery=None, interval=None) for name in BASE}
    bare = replace(report, asked=records, methods=few, recovery=None, reliability=None)
    found = Reader(page(bare, DOCUMENT)).text
    assert "does not help the model" in found
    assert "Confidence" not in found
    nothing = replace(bare, asked=[])
    assert "All questions" in Reader(page(nothing, DOCUMENT)).text


BASE = ("none", "full", "precis")


def test_weak_regions_show_their_text_and_losses_add_up_to_what_recovery_lacks(report):
    text = "Calm water. " * 50 + "The lighthouse of Sora burned down in 1902. " + "More calm water. " * 50
    document = Document.from_text(text, "sea.md")
    place = document.text.index("The lighthouse")
    records = [replace(asked(n, gap=0.0), place=(n * 70) % 600) for n in range(12)]
    records += [replace(asked(n, gap=6.0), place=place) for n in range(12, 16)]
    found = Reader(page(replace(report, asked=records), document)).text
    assert "The lighthouse of Sora burned down in 1902." in found
    assert found.index("loss 100 %") < found.index("loss 0 %", found.index("loss 100 %"))


@pytest.mark.parametrize(
    ("said", "gold", "marked"),
    [
        ("red lamp", "red lamp", ["same: red lamp"]),
        ("Red lamp.", "red lamp", ["same: Red lamp."]),
        ("a blue lamp", "a red lamp", ["same: a", "missing: red", "added: blue", "same: lamp"]),
        ("", "red", ["missing: red"]),
        ("red", "", ["added: red"]),
        ("", "", []),
    ],
)
def test_differences_are_marked_word_by_word(said, gold, marked):
    assert [f"{piece.kind}: {piece.words}" for piece in differences(said, gold)] == marked
