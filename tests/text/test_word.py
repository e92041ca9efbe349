"""What Word shows and no file holds as text: numbers, marks of notes, equations, merged cells."""

import re
import zipfile

import pytest

from precis.text.document import read
from precis.text.readers.word.numerals import numeral

WORD = 'xmlns:w="urn:word" xmlns:m="urn:math" xmlns:r="urn:relations"'


def paragraph(text, number=None, level=0, style=None):
    properties = f'<w:pStyle w:val="{style}"/>' if style else ""
    if number is not None:
        properties += f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>'
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def levels(*given, first=0, extra=""):
    """Write the levels of a list from the first on, each as (format, pattern)."""
    return "".join(
        f'<w:lvl w:ilvl="{index}"><w:start w:val="1"/><w:numFmt w:val="{form}"/>{extra}'
        f'<w:lvlText w:val="{pattern}"/></w:lvl>'
        for index, (form, pattern) in enumerate(given, start=first)
    )


def numbering(abstract, *lists):
    """Write a numbering part with one abstract list; `lists` are the overrides of the lists 1, 2, …."""
    nums = "".join(
        f'<w:num w:numId="{index}"><w:abstractNumId w:val="0"/>{overrides}</w:num>'
        for index, overrides in enumerate(lists or [""], start=1)
    )
    return f'<w:abstractNum w:abstractNumId="0">{abstract}</w:abstractNum>{nums}'


@pytest.fixture
def text_of(tmp_path):
    """Return a function that writes a DOCX with the given parts and reads it."""

    def write(body, **parts):
        with zipfile.ZipFile(tmp_path / "a.docx", "w") as archive:
            for name, content in {"document": body, **parts}.items():
                archive.writestr(f"word/{name}.xml", f"<w:{name} {WORD}>{content}</w:{name}>")
        return read(tmp_path / "a.docx").text

    return write


def test_numbers_of_every_level_restart_below_the_next(text_of):
    part = numbering(levels(("upperRoman", "%1."), ("decimal", "%1.%2"), ("lowerLetter", "(%3)")))
    body = "".join(paragraph(f"p{index}", 1, level) for index, level in enumerate([0, 1, 2, 2, 1, 2, 0, 1]))
    assert text_of(body, numbering=part).split("\n\n") == [
        *("I. p0", "I.1 p1", "(a) p2", "(b) p3", "I.2 p4", "(a) p5", "II. p6", "II.1 p7")
    ]


def test_legal_numbers_are_in_digits(text_of):
    legal = levels(("upperRoman", "Article %1")) + levels(("decimal", "%1.%2"), first=1, extra="<w:isLgl/>")
    body = paragraph("a", 1) + paragraph("b", 1) + paragraph("c", 1, 1)
    assert text_of(body, numbering=numbering(legal)).split("\n\n") == ["Article I a", "Article II b", "2.1 c"]


def test_lists_go_on_or_start_as_they_say(text_of):
    start = '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="%s"/></w:lvlOverride>'
    part = numbering(levels(("decimal", "%1)")), "", "", start % 1, start % 7)
    body = "".join(paragraph("x", number) for number in (1, 1, 2, 3, 3, 4, 4))
    assert re.findall(r"\d+", text_of(body, numbering=part)) == ["1", "2", "3", "1", "2", "7", "8"]


def test_a_level_may_never_restart(text_of):
    never = levels(("decimal", "§ %2"), first=1, extra='<w:lvlRestart w:val="0"/>')
    part = numbering(levels(("decimal", "%1.")) + never)
    body = "".join(paragraph("x", 1, level) for level in (0, 1, 1, 0, 1))
    assert re.findall(r"§ \d", text_of(body, numbering=part)) == ["§ 1", "§ 2", "§ 3"]


def test_styles_carry_numbers_and_headings(text_of):
    linked = "".join(
        f'<w:lvl w:ilvl="{index}"><w:start w:val="1"/><w:numFmt w:val="decimal"/><w:pStyle w:val="{style}"/>'
        f'<w:lvlText w:val="{pattern}"/></w:lvl>'
        for index, (style, pattern) in enumerate([("Kap", "%1"), ("Unter", "%1.%2")])
    )
    number = '<w:numPr><w:numId w:val="1"/></w:numPr>'
    styles = (
        '<w:style w:styleId="Kap"><w:name w:val="heading 1"/>'
        f'<w:pPr>{number}<w:outlineLvl w:val="0"/></w:pPr></w:style>'
        '<w:style w:styleId="Unter"><w:name w:val="x"/>'
        f'<w:pPr>{number}<w:outlineLvl w:val="1"/></w:pPr></w:style>'
        '<w:style w:styleId="Own"><w:name w:val="y"/><w:basedOn w:val="Unter"/></w:style>'
    )
    body = paragraph("A", style="Kap") + paragraph("B", style="Unter") + paragraph("C", style="Own")
    body += paragraph("D", 0, style="Kap")
    found = text_of(body, numbering=numbering(linked), styles=styles)
    assert found.split("\n\n")[:2] == ["# 1 A", "## 1.1 B"]
    assert found.split("\n\n")[3] == "# D"


def test_an_empty_numbered_paragraph_counts(text_of):
    body = paragraph("a", 1) + paragraph("", 1) + paragraph("c", 1)
    assert text_of(body, numbering=numbering(levels(("decimal", "%1.")))) == "1. a\n\n3. c"


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        ("decimal", "27"),
        ("decimalZero", "27"),
        ("lowerLetter", "aa"),
        ("upperLetter", "AA"),
        ("lowerRoman", "xxvii"),
        ("upperRoman", "XXVII"),
        ("ordinal", "27th"),
        ("cardinalText", "Twenty-seven"),
        ("ordinalText", "Twenty-seventh"),
        ("chineseCounting", "二十七"),
        ("none", ""),
        ("a form of the future", "27"),
    ],
)
def test_numerals(form, shown):
    assert numeral(27, form) == shown


def run(text, properties=""):
    return f"<w:r><w:rPr>{properties}</w:rPr><w:t>{text}</w:t></w:r>"


def test_raised_and_lowered_text_is_kept_apart(text_of):
    up, down = '<w:vertAlign w:val="superscript"/>', '<w:vertAlign w:val="subscript"/>'
    body = run("10") + run("-", up) + run("6", up) + run(", x") + run("2", down) + run(", 1") + run("st", up)
    body += run(", e") + run("a + b", up) + run(", ") + run("40", "<w:strike/>") + run(" 50")
    body += run("unseen", "<w:vanish/>")
    assert text_of(f"<w:p>{body}</w:p>") == "10^-6, x_2, 1st, e^(a + b), ~~40~~ 50"


def test_notes_follow_what_refers_to_them(text_of):
    note = '<w:%s w:id="%s"><w:p><w:r><w:t>%s</w:t></w:r></w:p></w:%s>'
    body = (
        '<w:p><w:r><w:t>In 1841</w:t></w:r><w:r><w:footnoteReference w:id="5"/></w:r>'
        '<w:r><w:t> or 1902</w:t></w:r><w:r><w:endnoteReference w:id="2"/></w:r><w:r><w:t>.</w:t></w:r></w:p>'
        '<w:p><w:r><w:t>Next</w:t></w:r><w:r><w:footnoteReference w:id="4"/></w:r></w:p>'
        "<w:p><w:r><w:t>Last</w:t></w:r>"
        '<w:r><w:footnoteReference w:customMarkFollows="1" w:id="9"/><w:t>*</w:t></w:r></w:p>'
    )
    foot = "".join(note % ("footnote", name, f"1{name} kegs.", "footnote") for name in (4, 5, 9))
    assert text_of(body, footnotes=foot, endnotes=note % ("endnote", 2, "An end.", "endnote")) == (
        "In 1841[1] or 1902[i].\n\n[1] 15 kegs.\n\n[i] An end.\n\n"
        "Next[2]\n\n[2] 14 kegs.\n\nLast[*]\n\n[*] 19 kegs."
    )


def m(name, *parts):
    return f"<m:{name}>{''.join(parts)}</m:{name}>"


def t(text):
    return m("r", m("t", text))


@pytest.mark.parametrize(
    ("equation", "line"),
    [
        (m("f", m("num", t("a+b")), m("den", t("2c"))), "(a+b)/(2c)"),
        (m("f", m("num", t("1")), m("den", t("2"))), "1/2"),
        (m("sSup", m("e", t("x+1")), m("sup", t("n-1"))), "(x+1)^(n-1)"),
        (m("sSubSup", m("e", t("x")), m("sub", t("i")), m("sup", t("2"))), "x_i^2"),
        (m("rad", m("deg", t("3")), m("e", t("x"))), "∛x"),
        (m("rad", m("radPr", '<m:degHide m:val="1"/>'), m("deg"), m("e", t("x+1"))), "√(x+1)"),
        (
            m(
                "nary",
                m("naryPr", '<m:chr m:val="∑"/>'),
                m("sub", t("i=1")),
                m("sup", t("n")),
                m("e", t("i")),
            ),
            "∑_(i=1)^n i",
        ),
        (m("d", m("dPr", '<m:begChr m:val="["/><m:endChr m:val="]"/>'), m("e", t("x"))), "[x]"),
        (m("func", m("fName", t("sin")), m("e", t("x"))), "sin x"),
        (
            m("m", m("mr", m("e", t("1")), m("e", t("2"))), m("mr", m("e", t("3")), m("e", t("4")))),
            "[1, 2; 3, 4]",
        ),
        (t("𝑥=𝟐"), "x=2"),
    ],
)
def test_equations_keep_their_structure(text_of, equation, line):
    assert text_of(f"<w:p><m:oMath>{equation}</m:oMath></w:p>") == line


def cell(text, properties=""):
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{paragraph(text)}</w:tc>"


def test_merged_cells_keep_their_place(text_of):
    rows = [
        cell("Berth", '<w:gridSpan w:val="2"/>') + cell("Fee"),
        cell("North", '<w:vMerge w:val="restart"/>') + cell("a|b") + cell("40"),
        cell("", "<w:vMerge/>") + cell("c") + cell("50"),
        '<w:trPr><w:gridBefore w:val="2"/></w:trPr>' + cell("90"),
    ]
    header = "<w:trPr><w:tblHeader/></w:trPr>"
    table = "".join(f"<w:tr>{header if not at else ''}{row}</w:tr>" for at, row in enumerate(rows))
    assert text_of(f"<w:tbl>{table}</w:tbl>").split("\n") == [
        *("| Berth | | Fee |", "| --- | --- | --- |", "| North | a\\|b | 40 |", "| | c | 50 |", "| | | 90 |")
    ]


def test_symbols_of_a_symbol_font(text_of):
    symbol = '<w:sym w:font="Symbol" w:char="F0B1"/>'
    assert text_of(f"<w:p><w:r>{symbol}<w:t>2</w:t></w:r></w:p>") == "±2"


def test_what_a_removed_paragraph_end_joins(text_of):
    removed = "<w:pPr><w:rPr><w:del/></w:rPr></w:pPr>"
    assert text_of(f"<w:p>{removed}{run('One ')}</w:p><w:p>{run('line')}</w:p>") == "One line"
