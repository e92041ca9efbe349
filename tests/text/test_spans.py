"""Spans cover the whole document."""

from precis.model.chat import Chat
from precis.text.spans import spans_of
from tests.conftest import make_tokenizer

TEXT = (
    "The harbour closes at nine. The lamp is red.\n\n"
    + "A long paragraph without end " * 30
    + "\n\n- a list\n- of items\n\n"
    + "x" * 500
)


def test_spans_cover_everything_in_order_within_the_limit():
    chat = Chat(make_tokenizer())
    spans = spans_of(TEXT, chat, limit=64)
    assert "".join(TEXT[span.start : span.end] for span in spans) == TEXT
    assert all(span.tokens <= 64 for span in spans)
    assert len(spans) < 40


def test_a_text_of_one_word_is_one_span():
    assert len(spans_of("harbour", Chat(make_tokenizer()))) == 1
