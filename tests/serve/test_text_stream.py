"""Text as it is sent: whole characters, never a part of a stop string, and in all the answer."""

import random

import pytest

from precis.serve.engine.engine import Chosen
from precis.serve.engine.text_stream import TextStream, token_bytes
from tests.conftest import make_tokenizer

TOKENIZER = make_tokenizer()


def chosen(token, ends=False):
    return Chosen(token, -0.5, ends)


def streamed(tokens, stops=(), end=None):
    """Feed tokens one by one; give the pieces that came out, and whether a stop string ended it."""
    stream, pieces = TextStream(TOKENIZER, stops), []
    for token in tokens:
        stopped = stream.add(chosen(token))
        pieces.append(stream.take()[0])
        if stopped:
            return pieces, True
    if end is not None:
        stream.add(chosen(end, ends=True))
    stream.finish()
    pieces.append(stream.take()[0])
    return pieces, False


def tokens_of(text):
    return TOKENIZER.encode(text, add_special_tokens=False)


@pytest.mark.parametrize(
    "text", ["the lamp is red", "Zürich, 東京 and 🦔🦔!", "  the \n\n lamp  ", "a\t", ""]
)
def test_the_pieces_are_the_text_in_whole_characters(text):
    tokens = tokens_of(text)
    pieces, stopped = streamed(tokens, end=TOKENIZER.eos_token_id)
    assert not stopped
    assert "".join(pieces) == text.strip() == TOKENIZER.decode(tokens).strip()
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


def test_a_character_comes_when_its_last_byte_does():
    tokens = tokens_of("a🦔b")
    assert len(tokens) == 6
    assert streamed(tokens)[0] == ["a", "", "", "", "🦔", "b", ""]


def test_any_tokens_together_give_what_decoding_them_gives():
    draw = random.Random(5)
    for _ in range(300):
        tokens = [draw.randrange(4, len(TOKENIZER)) for _ in range(draw.randrange(1, 30))]
        assert "".join(streamed(tokens)[0]) == TOKENIZER.decode(tokens).strip()


def test_half_a_character_at_the_limit_is_shown_as_such():
    tokens = tokens_of("a🦔")[:3]
    assert "".join(streamed(tokens)[0]) == "a\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("text", "stops", "answer"),
    [
        ("the lamp is red", ["is"], "the lamp"),
        ("the lamp is red", ["red", "lamp"], "the"),
        ("the lamp is red", ["harbour"], None),
        ("abcabd", ["abd"], "abc"),
        ("aaab", ["aab"], "a"),
        ("one\n\ntwo", ["\n\n"], "one"),
        ("one  \n", [" \n"], "one"),
        ("the lamp", ["the"], ""),
        ("x 東京 y", ["京"], "x 東"),
        ("ends with a part ab", ["abc"], None),
    ],
)
def test_no_part_of_a_stop_string_is_ever_sent(text, stops, answer):
    pieces, stopped = streamed(tokens_of(text), stops, end=TOKENIZER.eos_token_id)
    assert stopped == (answer is not None)
    assert "".join(pieces) == (text if answer is None else answer)


def test_stop_strings_in_random_texts():
    draw = random.Random(7)
    for _ in range(500):
        text = "".join(draw.choice("ab \n") for _ in range(draw.randrange(1, 25)))
        stops = ["".join(draw.choice("ab \n") for _ in range(draw.randrange(1, 4))) for _ in range(2)]
        pieces, stopped = streamed(tokens_of(text), stops)
        begun = text.lstrip()
        places = [begun.find(stop) for stop in stops if stop in begun]
        assert stopped == bool(places)
        if not stopped:
            assert "".join(pieces) == text.strip()
        else:
            said = "".join(pieces)
            assert begun.startswith(said)
            assert not any(stop in said for stop in stops)


def test_every_token_is_given_out_once_with_its_place():
    tokens = [*tokens_of(" the 🦔 lamp "), TOKENIZER.eos_token_id]
    stream, placed = TextStream(TOKENIZER), []
    for token in tokens:
        stream.add(chosen(token, ends=token == TOKENIZER.eos_token_id))
        placed += stream.take()[1]
    stream.finish()
    placed += stream.take()[1]
    assert [item.chosen.token for item in placed] == tokens[: len(placed)]
    assert TOKENIZER.decode([item.chosen.token for item in placed]).strip() == "the 🦔 lamp"
    assert all(item.start <= len("the 🦔 lamp") for item in placed)


def test_the_bytes_of_parts_of_a_character():
    tokens = tokens_of("é東🦔 a")
    assert bytes(byte for token in tokens for byte in token_bytes(TOKENIZER, token)).decode() == "é東🦔 a"
