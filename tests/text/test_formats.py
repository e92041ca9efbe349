"""Formats that are known by their content, wrapped in others, or damaged."""

import contextlib
import gzip
import io
import json
import zipfile
from pathlib import Path

import pytest

from precis.errors import DocumentError
from precis.text.document import read
from precis.text.readers import READERS, may_be_readable
from precis.text.readers.sheets import shown_number

TRIALS = Path(__file__).parent / "trials"
FORMATS = sorted(path for kind in ("docx", "formats") for path in (TRIALS / kind).iterdir())


def test_every_format_may_be_readable():
    for reader in READERS:
        assert all(map(may_be_readable, reader.suffixes))
    assert all(map(may_be_readable, ["", ".md", ".rst", ".tex", ".gz", ".docm"]))
    assert not any(map(may_be_readable, [".png", ".zip", ".doc", ".xls", ".precis"]))


@pytest.mark.parametrize(
    "path", [path for path in FORMATS if path.suffix not in {".srt", ".mhtml"}], ids=lambda path: path.name
)
def test_known_by_content(path, tmp_path):
    (tmp_path / "download").write_bytes(path.read_bytes())
    assert read(tmp_path / "download").text == read(path).text


@pytest.mark.parametrize("path", FORMATS, ids=lambda path: path.name)
def test_compressed(path, tmp_path):
    (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert read(tmp_path / f"{path.name}.gz").text == read(path).text


@pytest.mark.parametrize("path", FORMATS, ids=lambda path: path.name)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_cut_off_files_are_refused_in_a_sentence_or_read_as_far_as_they_go(path, share, tmp_path):
    data = path.read_bytes()
    cut = tmp_path / path.name
    cut.write_bytes(data[: int(len(data) * share)])
    if path.suffix in {".srt", ".vtt", ".mhtml"}:
        with contextlib.suppress(DocumentError):
            read(cut)
    else:
        with pytest.raises(DocumentError, match=r"^[^\n]+$"):
            read(cut)


def test_web_pages_and_mails_without_their_suffix(tmp_path):
    (tmp_path / "page").write_text("<!DOCTYPE html>\n<html><body><p>Fee &lt; 40</p></body></html>")
    assert read(tmp_path / "page").text == "Fee < 40"
    (tmp_path / "view.php").write_text("<!DOCTYPE html><html><?php echo 40; ?></html>")
    assert "<?php" in read(tmp_path / "view.php").text
    (tmp_path / "mail.txt").write_bytes(
        b"From: a@b.c\r\nTo: d@e.f\r\nSubject: Fee\r\nMIME-Version: 1.0\r\n\r\n40.\r\n"
    )
    assert read(tmp_path / "mail.txt").text == "From: a@b.c\nTo: d@e.f\nSubject: Fee\n\n40."
    (tmp_path / "notes.txt").write_text("Note: this is no mail.\nFrom: here\n\nSubject: none")
    assert read(tmp_path / "notes.txt").text.startswith("Note: this")


def test_old_and_damaged_archives(tmp_path):
    (tmp_path / "a.docx.gz").write_bytes(gzip.compress(b"Words." * 99)[:20])
    with pytest.raises(DocumentError, match="damaged or cut-off gzip"):
        read(tmp_path / "a.docx.gz")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    (tmp_path / "a.xlsx").write_bytes(buffer.getvalue())
    with pytest.raises(DocumentError, match="damaged or cut-off XLSX"):
        read(tmp_path / "a.xlsx")


def test_what_a_notebook_printed(tmp_path):
    outputs = [
        {"output_type": "stream", "text": ["\x1b[31mfee\x1b[0m\n", "40\n"]},
        {"output_type": "execute_result", "data": {"text/plain": "41", "text/html": "<b>41</b>"}},
        {"output_type": "error", "ename": "ValueError", "evalue": "no fee", "traceback": []},
    ]
    cell = {"cell_type": "code", "source": "fee()", "outputs": outputs}
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": [cell], "nbformat": 4}))
    fences = [
        f"```python\n{cell['source']}\n```",
        *(f"```\n{text}\n```" for text in ("fee\n40", "41", "ValueError: no fee")),
    ]
    assert read(tmp_path / "a.ipynb").text == "\n\n".join(fences)


def test_mail_in_html_with_another_mail_in_it(tmp_path):
    (tmp_path / "a.eml").write_bytes(
        b'From: a@b.c\nSubject: Outer\nContent-Type: multipart/mixed; boundary="x"\n\n'
        b"--x\nContent-Type: text/html; charset=iso-8859-1\n\n<p>Caf\xe9 &lt; 40</p>\n"
        b"--x\nContent-Type: message/rfc822\n\nFrom: d@e.f\nSubject: Inner\n\nThe fee is 41.\n--x--\n"
    )
    assert read(tmp_path / "a.eml").text == (
        "From: a@b.c\nSubject: Outer\n\nCafé < 40\n\n"
        "Forwarded message\n\nFrom: d@e.f\nSubject: Inner\n\nThe fee is 41."
    )


@pytest.mark.parametrize(
    ("value", "form", "shown"),
    [
        (0.4, "0%", "40%"),
        (0.4567, "0.00%", "45.67%"),
        (0.1 + 0.2, "General", "0.3"),
        (1234.5, '#,##0.00 "kr"', "1,234.50 kr"),
        (1234.5, "[$€-407] #,##0.00", "€ 1,234.50"),
        (-5, "0.0;(0.0)", "(5.0)"),
        (-5, "0.0", "-5.0"),
        (12.5, "# ?/?", "12.5"),
        (1e6, "0.00E+00", "1000000"),
        (2.5, "0.##", "2.5"),
        (7, "000", "007"),
        (2.675, "0.00", "2.68"),
    ],
)
def test_numbers_as_a_sheet_shows_them(value, form, shown):
    assert shown_number(value, form) == shown


NAMESPACES = " ".join(
    f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{kind}:1.0"'
    for name, kind in (
        *(("office", "office"), ("text", "text"), ("table", "table"), ("draw", "drawing")),
        ("presentation", "presentation"),
    )
)


def open_document(path, kind, body):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", f"application/vnd.oasis.opendocument.{kind}")
        document = f"<office:document-content {NAMESPACES}><office:body>{body}</office:body>"
        archive.writestr("content.xml", f"{document}</office:document-content>")


def test_a_sheet_in_opendocument_ends_where_its_cells_do(tmp_path):
    def cell(text):
        return f"<table:table-cell><text:p>{text}</text:p></table:table-cell>"

    def row(*cells):
        return f"<table:table-row>{''.join(cells)}</table:table-row>"

    empty = '<table:table-cell table:number-columns-repeated="1024"/>'
    rows = [row(cell("Berth"), cell("Fee")), row(cell("North quay"), cell("40"))]
    rows += [row("<table:table-cell/>", cell("12"))]
    rows += [f'<table:table-row table:number-rows-repeated="1048000">{empty}</table:table-row>']
    table = f'<table:table table:name="Fees">{"".join(rows)}</table:table>'
    open_document(tmp_path / "fees.ods", "spreadsheet", f"<office:spreadsheet>{table}</office:spreadsheet>")
    text = read(tmp_path / "fees.ods").text
    assert text == "# Fees\n\n| Berth | Fee |\n| --- | --- |\n| North quay | 40 |\n| | 12 |"


def test_slides_in_opendocument_are_pages_with_the_speakers_notes(tmp_path):
    def box(text):
        return f"<draw:frame><draw:text-box><text:p>{text}</text:p></draw:text-box></draw:frame>"

    notes = f"<presentation:notes>{box('Say it twice.')}</presentation:notes>"
    slides = f"<draw:page>{box('The toll')}{box('Forty crowns')}{notes}</draw:page>"
    slides += f"<draw:page>{box('Lamps')}</draw:page>"
    body = f"<office:presentation>{slides}</office:presentation>"
    open_document(tmp_path / "talk.odp", "presentation", body)
    document = read(tmp_path / "talk.odp")
    assert document.text == "The toll\n\nForty crowns\n\nNotes: Say it twice.\n\nLamps"
    assert [page.number for page in document.pages] == [1, 2]
