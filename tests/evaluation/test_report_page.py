"""The page: all that it must show is there, and nothing that it is given is taken for markup."""

from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations

import pytest

from precis.evaluation.bootstrap import wilson_interval
from precis.evaluation.reliability import reliability
from precis.evaluation.report import (
    BY_HUMANS,
    BY_THE_DOCUMENT,
    AnsweredQuestion,
    Comparison,
    MethodAnswer,
    MethodScores,
    Report,
)
from precis.evaluation.report_page import LABEL_HEIGHT, TOP, _scatter, differences, page
from precis.text.document import Document

HOSTILE = "<script>alert('&amp;')</script><img src=x onerror=alert(1)>\" onclick=\"x"
DOCUMENT = Document.from_text("The harbour of Milo is green. " * 20 + HOSTILE, "harbour.md")
VOID = ("br", "hr", "img", "input", "link", "meta")


def scores(recovery, size=1000, **changes):
    names = (
        "kept",
        "f1",
        "answer_words",
        "first_token_s",
        "tokens_per_s",
        "nll",
        "kl",
        "top1",
        "match",
        "em",
    )
    right = round(16 * max(0.0, recovery))
    plain = MethodScores(
        right=right / 16,
        right_interval=wilson_interval(right / 16, 16),
        right_count=right,
        judged=16,
        **dict.fromkeys(names, 0.5),
        prompt_positions=size,
        prefix_bytes=size,
        recovery=recovery,
        interval=(recovery - 0.1, recovery + 0.1),
        failures=0,
    )
    return replace(plain, **changes)


def asked(number, *, gap, confidence=0.5, right=False, said="The keeper is Anda", text="Question {} of {}?"):
    return AnsweredQuestion(
        text.format(number, "Milo"),
        ["Anda"],
        4,
        (number * 97) % len(DOCUMENT.text),
        {
            "none": MethodAnswer("nobody", 8.0, 1.0, 1, 0.0, right=False),
            "full": MethodAnswer("the keeper Anda", 2.0, 0.0, 4, 1.0, right=True),
            "soft-prompt": MethodAnswer(said, 2.0 + gap, 0.5, 2, 0.8, right=True),
            "precis": MethodAnswer(said, 2.0 + gap, 0.5, 2, 0.8, confidence, right=right),
            "kvzip": MethodAnswer("Boris", 5.0, 0.5, 2, 0.0, right=False),
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
        judged_by=BY_HUMANS,
        recovery=0.69,
        methods={
            "none": scores(0.0, 100),
            "full": scores(1.0, 20000),
            "soft-prompt": scores(0.4),
            "precis": scores(0.69, 1040),
            "kvzip": scores(0.5),
            "bad": scores(-3.0),
            "failed": MethodScores(
                *[None] * 2, 0, 0, *[None] * 14, failures=17, reason="too long for the window"
            ),
        },
        comparisons=[Comparison("precis", "full", -0.31, (-0.5, -0.1), 16)],
        asked=[*records, AnsweredQuestion("Too long a question?", [], 0, 0, {})],
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
    questions = found[found.index("All questions, the wrong") :]
    places = [questions.index(f"Question {number} of") for number in range(16)]
    assert places == sorted(places, reverse=True)
    for name in report.methods:
        assert name in found
    said = "precis answers 11 of 16 questions right (69 %, 95 % interval 44 to 86 %)"
    assert found.index(said) < found.index("Tokens/s")
    assert "the model with the whole document before it 16." in found
    assert (
        "The soft prompt alone answers 6 right. The best of 2 other methods, kvzip, answers 8 of 16" in found
    )
    assert "(50 %), with 1,000 positions before the question against 1,040" in found
    assert "precis against full: −31 percentage points (95 % interval −50 to −10)" in found
    assert "too long for the window" in found
    assert "1 question without a result" in found


def test_every_answer_says_in_words_whether_it_is_right_and_wrong_ones_of_precis_come_first(report):
    records = [asked(number, gap=number / 4, right=number % 2 == 1) for number in range(8)]
    found = Reader(page(replace(report, asked=records), DOCUMENT)).text
    questions = found[found.index("All questions, the wrong") :]
    order = sorted(range(8), key=lambda number: questions.index(f"Question {number} of"))
    assert order == [6, 4, 2, 0, 7, 5, 3, 1]
    one = questions[questions.index("Question 6") : questions.index("Question 4")]
    assert (
        one.index("full document ✓ right the")
        < one.index("precis ✗ wrong")
        < one.index("soft-prompt ✓ right")
    )
    assert "no document ✗ wrong" in one
    assert "kvzip ✗ wrong" in one
    assert "1 other method " in one
    assert "a human's answer to the question occurs in it" in found


def test_without_human_answers_the_page_says_what_counts_as_right(report):
    found = Reader(page(replace(report, judged_by=BY_THE_DOCUMENT), DOCUMENT)).text
    assert "come without human answers" in found
    assert "of 16 questions as the model with the whole document before it does" in found
    assert "of the answers agree with the full document's" in found


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
        asked=[*records, AnsweredQuestion(HOSTILE, [], 0, 0, {})],
        methods={**report.methods, HOSTILE: scores(0.2, reason=HOSTILE)},
    )
    text = page(hostile, DOCUMENT)
    reader = Reader(text)
    assert "alert(1)" in text
    assert text.count("<script>") == 1
    assert reader.tags.count("script") == plain.tags.count("script") == 1
    assert "img" not in reader.tags
    assert not [name for name, _ in reader.attributes if name.startswith("on")]


def test_without_baselines_confidence_answers_or_recovery_it_is_a_page_all_the_same(report):
    records = [
        replace(
            record,
            methods={
                name: replace(record.methods[name], text=None if name == "precis" else "x", right=None)
                for name in BASE
            },
        )
        for record in report.asked[:2]
    ]
    nothing_known = {"recovery": None, "interval": None, "right": None, "right_interval": None}
    few = {name: replace(report.methods[name], **nothing_known) for name in BASE}
    bare = replace(report, asked=records, methods=few, recovery=None, reliability=None, comparisons=[])
    found = Reader(page(bare, DOCUMENT)).text
    assert "nothing to judge" in found
    assert "Confidence" not in found
    nothing = replace(bare, asked=[])
    assert "All questions" in Reader(page(nothing, DOCUMENT)).text


BASE = ("none", "full", "soft-prompt", "precis")


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


def test_labels_of_methods_that_do_alike_neither_cover_each_other_nor_leave_the_plot(report):
    alike = {f"method-{number}": scores(1.0, 20000 + number) for number in range(7)}
    drawn = _scatter(replace(report, methods={**report.methods, **alike}))
    places = [mark.label_y for mark in drawn.marks if mark.label.startswith("method-")]
    assert min(places) >= TOP
    assert all(abs(one - other) >= LABEL_HEIGHT for one, other in combinations(places, 2))
