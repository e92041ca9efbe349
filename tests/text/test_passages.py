"""Passages and recall: whole sentences of one page, with their exact place, the most telling first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from precis.artifact import Artifact
from precis.manifest import DocumentRecord
from precis.text.document import Document, Page, read
from precis.text.passages import MOST_TOKENS, PASSAGE_TOKENS, Passages
from precis.text.recall import NOTHING, RECALL, features_of, recall, support
from tests.conftest import RECALL_MODEL
from tests.test_artifact import make_artifact

PARAGRAPHS = (
    "# Opening hours",
    "The harbour closes at nine. On Sundays, it closes at noon. The café stays open. Nobody minds.",
    "The lamp above the gate is red! Boats wait for the pilot, who lives in the old mill by the church.",
)
GERMAN = (
    "Der Hafen wurde im Jahr 1834 gebaut. Die Schiffe warten z. B. vor der Schleuse auf den Lotsen.",
    "Dr. Lund leitet den Hafen seit drei Jahren. Ihre Lampen brennen die ganze Nacht.",
)
JAPANESE = "港は1834年に建てられました。灯台の光は赤いです。船は門の前で水先人を待ちます。"


@pytest.fixture(scope="module")
def chat():
    from precis.model.loading import load_model

    return load_model(str(RECALL_MODEL)).chat


def two_pages():
    first, second = "\n\n".join(PARAGRAPHS[:2]), PARAGRAPHS[2]
    whole = Document.from_text(f"{first}\n\n{second}")
    end = len(first)
    pages = (Page("guide.pdf", 4, 0, end), Page("guide.pdf", 7, end + 2, len(whole.text)))
    return Document("guide.pdf", whole.text, pages, whole.sha256)


def sentences_of(passages):
    return [passages.sentence(place) for place in range(len(passages.sentences))]


def all_of(passages):
    return [passages.passage(number) for number in range(len(passages.spans))]


# --- finding ------------------------------------------------------------------------------------------


def test_the_telling_passage_comes_first_with_its_page(chat):
    best, *_ = Passages(two_pages(), chat).find("What colour is the lamp?", 3)
    assert "The lamp above the gate is red!" in best.text
    assert (best.source, best.page) == ("guide.pdf", 7)
    assert best.place == "guide.pdf, page 7"
    best, *_ = Passages(two_pages(), chat).find("When does the harbour close on Sundays?", 3)
    assert "it closes at noon." in best.text
    assert best.page == 4


def test_the_best_comes_first_and_no_more_than_asked_for(chat):
    passages = Passages(two_pages(), chat, limit=1)
    found = passages.find("harbour lamp pilot café", 9)
    scores = [passage.score for passage in found]
    assert scores == sorted(scores, reverse=True)
    assert len(found) > 1
    assert passages.find("harbour lamp pilot café", 1) == found[:1]
    assert passages.find("harbour", 0) == passages.find("harbour", -1) == ()


@pytest.mark.parametrize("question", ["zebra?", "", "?!", "鯨"])
def test_what_has_no_word_of_the_question_is_left_out(chat, question):
    assert Passages(two_pages(), chat).find(question, 3) == ()


def test_of_equals_the_earlier_comes_first(chat):
    document = Document.from_text("\n\n".join(["The lamp is red."] * 3))
    found = Passages(document, chat).find("Which lamp?", 3)
    assert [passage.start for passage in found] == [0, 18, 36]


@pytest.mark.parametrize("text", ["— — —\n\n* * *", "…", "\u200b\n\n-"])
def test_a_document_without_words_has_nothing_to_recall(chat, text):
    passages = Passages(Document.from_text(text), chat)
    assert passages.find("Who?", 3) == ()
    found = recall(passages, "Who?")
    assert (found.passages, found.text) == ((), "")
    assert 0 <= found.coverage <= 1


def test_words_are_found_by_their_stems(chat):
    document = Document.from_text(
        "The ferries were painted in 1834.\n\nA lamp burns above the gate of the harbour all night long."
    )
    (found,) = Passages(document, chat).find("Who did the painting of each ferry?", 1)
    assert found.text == "The ferries were painted in 1834."
    (found,) = Passages(document, chat).find("When do lamps burn?", 1)
    assert found.text.startswith("A lamp burns")


def test_a_heading_is_found_by_and_shown_with_nothing(chat):
    passages = Passages(two_pages(), chat)
    best, *_ = passages.find("opening hours", 1)
    assert best.text.startswith("The harbour closes at nine.")
    assert [sentence.heading for sentence in passages.sentences] == ["Opening hours"] * len(
        passages.sentences
    )
    # a control: without the heading nothing has these words
    assert Passages(Document.from_text("\n\n".join(PARAGRAPHS[1:])), chat).find("hours", 1) == ()


def test_a_heading_with_nothing_below_it_is_text(chat):
    document = Document.from_text("The lamp is red.\n\nOpening hours")
    found = Passages(document, chat).find("opening hours", 1)
    assert [passage.text for passage in found] == ["Opening hours"]


# --- whole sentences, at their exact place ------------------------------------------------------------


def test_passages_are_whole_sentences(chat):
    passages = Passages(two_pages(), chat)
    assert sentences_of(passages) == [
        "The harbour closes at nine.",
        "On Sundays, it closes at noon.",
        "The café stays open.",
        "Nobody minds.",
        "The lamp above the gate is red!",
        "Boats wait for the pilot, who lives in the old mill by the church.",
    ]
    for number, (first, last) in enumerate(passages.spans):
        text = passages.text(number)
        assert text.startswith(passages.sentence(first))
        assert text.endswith(passages.sentence(last))
    # each sentence stands in one of them, in order
    assert [place for first, last in passages.spans for place in range(first, last + 1)] == list(range(6))


@pytest.mark.parametrize("limit", [1, 12, PASSAGE_TOKENS, 500])
def test_a_passage_has_as_many_sentences_as_fit(chat, limit):
    document = Document.from_text(" ".join(f"The lamp {n} is red." for n in range(12)))
    passages = Passages(document, chat, limit)
    for number, (first, last) in enumerate(passages.spans):
        assert first == last or passages.tokens(number) <= limit
        if last + 1 < len(passages.sentences):
            assert passages.tokens(number) + passages.sentences[last + 1].tokens > limit
    assert len(passages.spans) == (1 if limit == 500 else 12 if limit == 1 else len(passages.spans))


def test_start_and_end_are_where_the_passage_stands(chat):
    for document in (two_pages(), read(Path(__file__).parents[2] / "examples" / "tern-harbour.md")):
        passages = Passages(document, chat)
        for passage in all_of(passages):
            assert document.text[passage.start : passage.end] == passage.text
            assert passage.text == passage.text.strip() != ""
            assert document.page_at(passage.start).number == passage.page
        starts = [passage.start for passage in all_of(passages)]
        ends = [passage.end for passage in all_of(passages)]
        assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))


def test_no_passage_crosses_a_page_or_a_paragraph(chat):
    document = two_pages()
    for passage in all_of(Passages(document, chat, limit=500)):
        page = document.page_at(passage.start)
        assert page.start <= passage.start < passage.end <= page.end
        assert "\n\n" not in passage.text
    # even where a sentence goes on on the next page
    whole = Document.from_text("The lamp is red and burns\nall night long.")
    pages = (Page("a.pdf", 1, 0, 25), Page("a.pdf", 2, 26, len(whole.text)))
    parted = Document("a.pdf", whole.text, pages, whole.sha256)
    assert [(passage.text, passage.page) for passage in all_of(Passages(parted, chat, limit=500))] == [
        ("The lamp is red and burns", 1),
        ("all night long.", 2),
    ]


def test_lines_of_tables_and_lists_stand_alone_and_wrapped_lines_do_not(chat):
    lines = (
        "| Berth | Depth |\n"
        "| North | 4 m |\n"
        "| South | 6 m |\n\n"
        "- The lamp is red\n"
        "- The gate is green\n\n"
        "The harbour was built a long time ago by the\nfishermen of the old town. It closes at nine."
    )
    assert sentences_of(Passages(Document.from_text(lines), chat)) == [
        "| Berth | Depth |",
        "| North | 4 m |",
        "| South | 6 m |",
        "- The lamp is red",
        "- The gate is green",
        "The harbour was built a long time ago by the\nfishermen of the old town.",
        "It closes at nine.",
    ]


def test_what_has_no_stops_is_cut_and_nothing_of_it_is_lost(chat):
    document = Document.from_text(" ".join(["harbour lamp"] * 300))
    passages = Passages(document, chat)
    assert len(passages.spans) > 1
    for passage in all_of(passages):
        assert len(chat.encode_plainly(passage.text)) <= MOST_TOKENS + 1
    kept = "".join(passage.text for passage in all_of(passages))
    assert kept.replace(" ", "") == document.text.replace(" ", "")


def test_abbreviations_end_no_sentence(chat):
    document = Document.from_text("Dr. Lund closes the harbour at 9 p.m. every day. Nobody minds.")
    assert sentences_of(Passages(document, chat)) == [
        "Dr. Lund closes the harbour at 9 p.m. every day.",
        "Nobody minds.",
    ]


# --- other languages ----------------------------------------------------------------------------------


def test_german_is_cut_and_found_as_german(chat):
    passages = Passages(Document.from_text("\n\n".join(GERMAN)), chat, limit=1)
    assert passages.language.code == "deu"
    assert sentences_of(passages) == [
        "Der Hafen wurde im Jahr 1834 gebaut.",
        "Die Schiffe warten z. B. vor der Schleuse auf den Lotsen.",
        "Dr. Lund leitet den Hafen seit drei Jahren.",
        "Ihre Lampen brennen die ganze Nacht.",
    ]
    (found,) = passages.find("Auf wen wartet ein Schiff?", 1)
    assert found.text.startswith("Die Schiffe warten")
    (found,) = passages.find("Welche Lampe brennt?", 1)
    assert found.text == "Ihre Lampen brennen die ganze Nacht."


def test_japanese_is_found_without_blanks_between_words(chat):
    passages = Passages(Document.from_text(JAPANESE), chat, limit=1)
    assert passages.language.code == "jpn"
    assert sentences_of(passages) == [
        "港は1834年に建てられました。",
        "灯台の光は赤いです。",
        "船は門の前で水先人を待ちます。",
    ]
    (found,) = passages.find("灯台の光は何色ですか？", 1)
    assert found.text == "灯台の光は赤いです。"
    (found,) = passages.find("水先人を待つのは何ですか？", 1)
    assert found.text == "船は門の前で水先人を待ちます。"


# --- recall -------------------------------------------------------------------------------------------


def test_recall_gives_one_passage_with_its_words(chat):
    passages = Passages(two_pages(), chat)
    found = recall(passages, "What colour is the lamp above the gate?")
    assert len(found.passages) == RECALL == 1
    assert found.text == found.passages[0].text
    assert "red" in found.text
    assert recall(passages, "lamp", 0).passages == ()
    assert recall(passages, "zebra?") == NOTHING


def test_several_passages_are_read_in_the_documents_order(chat):
    passages = Passages(two_pages(), chat, limit=1)
    found = recall(passages, "lamp gate red harbour", 2)
    assert [passage.page for passage in found.passages] == [7, 4]
    assert found.text == "The harbour closes at nine. The lamp above the gate is red!"


def test_what_was_asked_before_counts_half(chat):
    passages = Passages(two_pages(), chat, limit=1)
    before = "When does the harbour close?"
    assert recall(passages, "Really?") == NOTHING
    assert recall(passages, "Really?", before=before).text == "The harbour closes at nine."
    # a question that says what it is about is not led astray
    assert recall(passages, "What colour is the lamp?", before=before).text.startswith("The lamp")


def test_coverage_and_support_say_how_far_the_passage_speaks_of_it(chat):
    passages = Passages(two_pages(), chat, limit=1)
    question = "What colour is the lamp above the gate?"
    found = recall(passages, question)
    elsewhere = recall(passages, "Who minds the zebra of Okin?")
    assert 0 < elsewhere.coverage < found.coverage < 1
    assert recall(passages, "The lamp above the gate is red").coverage == pytest.approx(1)
    assert support(passages, "red", question, found) == 1
    assert support(passages, "blue", question, found) == 0
    assert support(passages, "red or blue", question, found) == pytest.approx(0.5)
    assert support(passages, "the lamp", question, found) == 0  # it says nothing beyond the question


def test_features_of_an_answer_that_was_made_without_the_text_are_the_models_doubt_alone(chat):
    passages = Passages(two_pages(), chat)
    question = "What colour is the lamp?"
    found = recall(passages, question)
    assert features_of([-1.0, -3.0], [0.5, 0.25], question, "red") == (-2.0, -0.5, 0.0, 0.0)
    full = features_of([-1.0, -3.0], [0.5, 0.25], question, "red", found, passages)
    assert full == (-2.0, -0.5, found.coverage, 1.0)


def test_the_kept_text_of_an_artifact_is_recalled_from(chat, tiny_model, tmp_path):
    document = two_pages()
    artifact = make_artifact(tiny_model, document=DocumentRecord(document.name, document.sha256, 80))
    assert artifact.document() is None
    artifact.with_text(document).save(tmp_path / "x.precis")
    again = Artifact.open(tmp_path / "x.precis").document()
    assert Passages(again, chat).find("lamp", 1) == Passages(document, chat).find("lamp", 1)


def test_a_real_document(chat):
    document = read(Path(__file__).parents[2] / "examples" / "tern-harbour.md")
    found = Passages(document, chat).find("On which VHF channel does the harbour office listen?", 3)
    assert len(found) == 3
    assert "VHF" in found[0].text
    assert all(passage.place == "tern-harbour.md, page 1" for passage in found)


def test_searching_does_not_start_jax(tmp_path):
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax" / "__init__.py").write_text("raise SystemExit('JAX was started')")
    command = [sys.executable, "-c", "import precis.text.passages"]
    surroundings = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run(command, env=surroundings, check=True)
