"""HTML: all of what a page says, as browsers show it."""

import pytest

from precis.text.readers.html import Html
from precis.text.readers.marks import raised


def text_of(markup, encoding="utf-8"):
    pages = Html().read(markup.encode(encoding))
    assert pages.notices == []
    (text,) = pages.texts
    return text


@pytest.mark.parametrize(
    "tag", ["div", "span", "blockquote", "section", "b", "ul><li", "table><tr><td", "font"]
)
def test_pages_nested_deeper_than_anyone_can_see(tag):
    assert "deep 40" in text_of(f"<{tag}>" * 1500 + "deep 40")


def test_end_tags_may_be_left_out():
    rules = "\n".join(f"<p>Rule {number}: the fee is {number + 10} crowns." for number in range(200))
    assert text_of(f"<title>Rules</title>{rules}").split("\n\n")[1:] == [
        f"Rule {number}: the fee is {number + 10} crowns." for number in range(200)
    ]
    assert text_of("<table><tr><th>Berth<th>Fee<tr><td>N<td>40</table>").endswith("| N | 40 |")
    assert text_of("<ul><li>oil<li>wick</ul><dl><dt>Term<dd>Meaning<dt>Other<dd>One</dl>") == (
        "- oil\n- wick\n\nTerm\nMeaning\n\nOther\nOne"
    )


def test_superscripts_and_subscripts():
    assert text_of("10<sup>-6</sup> kg CO<sub>2</sub>, x<sup>2</sup>, x<sub>i</sub><sup>2</sup>") == (
        "10^-6 kg CO_2, x^2, x_i^2"
    )
    assert text_of("e<sup>−x/2</sup>, 21<sup>st</sup>, m<sup>−1</sup>") == "e^{-x/2}, 21st, m^-1"


def test_footnote_marks():
    assert text_of("1841<sup><a href=#f1>3</a></sup> rose") == "1841[3] rose"
    assert text_of("1841<a href=#f1><sup>3</sup></a> rose") == "1841[3] rose"
    assert (
        text_of("word<sup id=c1><a href='p.html#n1'>[1]</a></sup>.<sup class=footnote>2</sup>")
        == "word[1].[2]"
    )
    assert text_of("<p>the toll<sup>4</sup></p>") == "the toll[4]"
    assert text_of("<ol><li id=f1>Some say 1842. <a href=#r1>↩</a></ol>") == "1. Some say 1842."


@pytest.mark.parametrize(
    ("before", "mark", "written"),
    [
        ("10", "6", "^6"),
        ("10", "−6", "^-6"),
        ("km", "2", "^2"),
        ("f(x)", "2", "^2"),
        ("in 1841", "3", "[3]"),
        ("harbour", "12", "[12]"),
        ("it ends.", "7", "[7]"),
        ("fee", "*", "*"),
        ("2", "nd", "nd"),
        ("x", "n+1", "^{n+1}"),
    ],
)
def test_raised(before, mark, written):
    assert raised(mark, before) == written


def test_code_without_its_line_numbers():
    code = "def fee(x):\n    return 40"
    assert text_of(
        "<table class=highlighttable><tr><td class=linenos><div class=linenodiv><pre>1\n2</pre></div></td>"
        f"<td class=code><div><pre><span></span>{code}\n</pre></div></td></tr></table>"
    ) == (f"```\n{code}\n```")
    assert (
        text_of(f"<table><tr><td><pre>8\n9</pre></td><td><pre>{code}</pre></td></tr></table>")
        == f"```\n{code}\n```"
    )
    lines = "\n".join(
        f"<span class=lineno>{n}</span>{line}" for n, line in enumerate(code.split("\n"), start=9)
    )
    assert text_of(f"<pre><code class=language-py>{lines}</code></pre>") == f"```py\n{code}\n```"
    rows = "".join(
        f"<tr><td class=blob-num>{n}</td><td class=blob-code>{line}</td></tr>"
        for n, line in enumerate(code.split("\n"), start=1)
    )
    assert text_of(f"<table>{rows}</table>") == code


def test_numbers_beside_text_are_no_line_numbers():
    assert text_of("<table><tr><td>1</td><td>forty</td></tr><tr><td>2</td><td>fifty</td></tr></table>") == (
        "| 1 | forty |\n| --- | --- |\n| 2 | fifty |"
    )


def test_tables_are_not_filled_up_with_spaces():
    wide = "word " * 100
    text = text_of(f"<table><tr><th>Berth</th><th>Remark</th></tr><tr><td>N</td><td>{wide}</td></tr></table>")
    assert text == f"| Berth | Remark |\n| --- | --- |\n| N | {wide.strip()} |"


def test_cells_stay_in_their_columns():
    assert (
        text_of(
            "<table><caption>Fees</caption><tr><th rowspan=2>Berth<th colspan=2>Fee</tr>"
            "<tr><th>summer<th>winter</tr><tr><td>N<td><td>22</tr></table>"
        )
        == "Fees\n\n| Berth | Fee | |\n| --- | --- | --- |\n| | summer | winter |\n| N | | 22 |"
    )


def test_tables_that_only_lay_out_the_page():
    assert text_of("<table><tr><td>Menu<td>Main<table><tr><td>N<td>40</table></table>") == (
        "Menu\n\nMain\n\n| N | 40 |\n| --- | --- |"
    )


@pytest.mark.parametrize(
    ("declared", "used", "text"),
    [
        ("gb2312", "gbk", "朱镕基，港口九点关闭"),
        ("gb2312", "gb18030", "費用為四十元 €"),
        ("shift_jis", "cp932", "料金は①四十"),
        ("euc-kr", "cp949", "똠방각하"),
        ("iso-8859-1", "windows-1252", "“Café” 40 €"),
        ("iso-8859-9", "windows-1254", "ücret “kırk”"),
        ("utf-8", "utf-8", "“Café”"),
    ],
)
def test_encodings_are_those_that_browsers_take(declared, used, text):
    assert (
        text_of(f"<html><head><meta charset='{declared}'></head><body><p>{text}</p></body></html>", used)
        == text
    )


def test_lists_are_numbered_as_they_are_shown():
    assert (
        text_of("<ol start=5><li>five<li>six<ol type=a><li>nested</ol></ol>")
        == "5. five\n6. six\n   a. nested"
    )
    assert (
        text_of("<ol reversed><li>two<li>one</ol><ol><li value=7>x<li>y</ol>")
        == "2. two\n1. one\n\n7. x\n8. y"
    )


def test_what_was_struck_out_is_told_from_what_stands():
    assert text_of("<del>Old fee 30</del> <ins>New fee 40</ins>") == "~~Old fee 30~~ New fee 40"


def test_formulas():
    assert (
        text_of("<math><mfrac><mn>3</mn><mrow><mi>x</mi><mo>+</mo><mn>1</mn></mrow></mfrac></math>")
        == "3/(x+1)"
    )
    assert text_of("<math><msup><mn>10</mn><mn>6</mn></msup></math>") == "10^6"
    assert (
        text_of("<math><semantics><mi>x</mi><annotation encoding='application/x-tex'>x_i</annotation></math>")
        == "x_i"
    )


def test_values_of_forms():
    assert (
        text_of(
            "<label>Name <input value='Ann'></label> <input type=hidden value=unseen><select><option>day"
            "<option selected>night</select> <input type=checkbox checked> insured"
        )
        == "Name Ann night [x] insured"
    )


def test_words_are_kept_as_they_are():
    assert (
        text_of("<p>w<b>or</b>d, a_b_ * 3 &amp; 5&nbsp;km<br>next   line</p>")
        == "word, a_b_ * 3 & 5 km\nnext line"
    )
    assert (
        text_of(
            "<?xml version='1.0'?><html><head><title/><script src='a.js'/></head><body>All.</body></html>"
        )
        == "All."
    )
