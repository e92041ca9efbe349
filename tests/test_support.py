"""Passages that bear on a question: whole sentences, with their page, the most telling first."""

from pathlib import Path

import pytest

from precis.artifact import Artifact
from precis.document import Document, Page, read
from precis.errors import ArtifactError
from precis.support import MOST_SENTENCES, MOST_TOKENS, Support
from tests.conftest import RECALL_MODEL
from tests.test_artifact import make_artifact

PARAGRAPHS = (
    "# Opening hours",
    "The harbour closes at nine. On Sundays, it closes at noon. The café stays open. Nobody minds.",
    "The lamp above the gate is red! Boats wait for the pilot, who lives in the old mill by the church.",
)


@pytest.fixture(scope="module")
def chat():
    from precis.model_source import load_model

    return load_model(str(RECALL_MODEL)).chat


def two_pages():
    first, second = "\n\n".join(PARAGRAPHS[:2]), PARAGRAPHS[2]
    whole = Document.from_text(f"{first}\n\n{second}")
    end = len(first)
    pages = (Page("guide.pdf", 4, 0, end), Page("guide.pdf", 7, end + 2, len(whole.text)))
    return Document("guide.pdf", whole.text, pages, whole.sha256)


def test_the_telling_passage_comes_first_with_its_page(chat):
    best, *_ = Support(two_pages(), chat).find("What colour is the lamp?", 3)
    assert "The lamp above the gate is red!" in best.text
    assert (best.source, best.page) == ("guide.pdf", 7)
    assert best.place == "guide.pdf, page 7"
    best, *_ = Support(two_pages(), chat).find("When does the harbour close on Sundays?", 3)
    assert "it closes at noon." in best.text
    assert best.page == 4


def test_the_best_comes_first_and_no_more_than_asked_for(chat):
    found = Support(two_pages(), chat).find("harbour lamp pilot café", 9)
    scores = [passage.score for passage in found]
    assert scores == sorted(scores, reverse=True)
    assert len(found) > 1
    assert Support(two_pages(), chat).find("harbour lamp pilot café", 1) == found[:1]


@pytest.mark.parametrize("question", ["zebra?", "", "the of and", "?!", "鯨"])
def test_what_has_no_word_of_the_question_is_left_out(chat, question):
    assert Support(two_pages(), chat).find(question, 3) == ()


def test_a_document_without_words_has_no_passages(chat):
    assert Support(Document.from_text("— — —\n\n* * *"), chat).find("Who?", 3) == ()


def test_passages_are_whole_sentences_and_few_of_them(chat):
    document = two_pages()
    sentences = [s for s in document.text.replace("\n\n", " ").replace("! ", ". ").split(". ") if s]
    for sentence in sentences:
        for passage in Support(document, chat).find(sentence, 99):
            assert passage.text in document.text
            assert passage.text[-1] in ".!" or passage.text.startswith("#")
            assert passage.text.count(".") + passage.text.count("!") <= MOST_SENTENCES


def test_short_sentences_are_counted_too(chat):
    document = Document.from_text(" ".join(f"The lamp {n} is red." for n in range(12)))
    found = Support(document, chat).find("lamp", 99)
    assert [passage.text.count(".") for passage in found] == [MOST_SENTENCES] * 4


def test_a_heading_stands_with_what_follows_it(chat):
    best, *_ = Support(two_pages(), chat).find("opening hours", 1)
    assert best.text.startswith("# Opening hours\n\nThe harbour closes at nine.")


def test_what_has_no_stops_is_cut(chat):
    document = Document.from_text(" ".join(["harbour lamp"] * 300))
    for passage in Support(document, chat).find("lamp", 99):
        assert len(chat.encode_plainly(passage.text)) <= MOST_TOKENS + 1


def test_the_kept_text_of_an_artifact_is_searched(chat, tiny_model, tmp_path):
    document = two_pages()
    artifact = make_artifact(
        tiny_model, document={"name": document.name, "sha256": document.sha256, "tokens": 80}
    )
    with pytest.raises(ArtifactError, match=r"guide\.pdf is not kept in this file.*--keep-text"):
        Support.of(artifact, chat)
    artifact.with_text(document).save(tmp_path / "x.precis")
    again = Artifact.open(tmp_path / "x.precis")
    assert Support.of(again, chat).find("lamp", 1) == Support(document, chat).find("lamp", 1)


def test_a_real_document(chat):
    document = read(Path(__file__).parents[1] / "examples" / "tern-harbour.md")
    found = Support(document, chat).find("On which VHF channel does the harbour office listen?", 3)
    assert len(found) == 3
    assert "VHF" in found[0].text
    assert all(passage.place == "tern-harbour.md, page 1" for passage in found)
