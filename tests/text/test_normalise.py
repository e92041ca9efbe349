"""The form in which documents are kept: what is seen stays, what is not goes, and nothing takes long."""

import pytest

from precis.text.normalise import normalise


def test_lines_and_unseen_characters():
    assert normalise("a\r\nb\rc\fd") == "a\nb\nc\nd"
    assert normalise("nul\0 soft\u00adhyphen \ufeffmark") == "nul softhyphen mark"
    assert normalise("Cafe\u0301") == "Caf\u00e9"
    assert normalise("\n\n  a \t\nb\n\n\n\n \n\nc\n\nd  \n") == "  a\nb\n\n\nc\n\nd"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("ha\u200brbour clo\u200dses\u2060 at\u00a0nine", "harbour closes at nine"),
        ("\u202eevil\u202c \u2066and\u2069 \U000e0041tag", "evil and tag"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # a joiner that Persian needs
        ("👩\u200d🚀", "👩\u200d🚀"),
        ("40\u202f000", "40 000"),
    ],
)
def test_zero_width_and_direction(given, kept):
    assert normalise(given) == kept


def test_marks_on_a_letter_are_bounded():
    text = normalise("a" + "\u0315\u0300" * 50_000 + "b")
    assert len(text) <= 10
    assert text.startswith("à")
    assert text.endswith("b")
    assert normalise("क्षि — “x” …………………") == "क्षि — “x” …………………"


def test_tables_lose_their_padding():
    assert normalise("| Name   | Fee |\n| ------ | --: |\n| North  |  40 |") == (
        "| Name | Fee |\n| --- | --: |\n| North | 40 |"
    )
    assert normalise("a  |  b ---- c") == "a  |  b ---- c"


def test_twice_is_once():
    text = normalise("e\0\u0301 \n\n\n\n\n x \u200d\u200b|  a  |\n|  b   |  ")
    assert normalise(text) == text
