"""Documents in every format, made on the spot, and every way in which a file can disappoint."""

import base64
import hashlib
import io
import os
import subprocess
import sys
import zipfile

import docx
import pytest
from PIL import Image
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen import canvas

from precis.errors import DocumentError
from precis.text.document import Document, read


def write_pdf(path, pages, **options):
    """Write a PDF with the given lines on each page; None is a page that holds a picture only."""
    pdf = canvas.Canvas(str(path), invariant=1, **options)
    for lines in pages:
        if lines is None:
            pdf.drawImage(ImageReader(Image.new("RGB", (60, 30), "grey")), 72, 500)
        for number, line in enumerate(lines or []):
            pdf.drawString(72, 750 - 16 * number, line)
        pdf.showPage()
    pdf.save()
    return path


def write_docx(path):
    """Write a DOCX with a heading, a list, a table and the characters that XML escapes."""
    file = docx.Document()
    file.add_heading("The lighthouse", 1)
    file.add_paragraph("AT&T paid if x < y\tand y > z.")
    file.add_paragraph("oil", style="List Bullet")
    table = file.add_table(2, 2)
    cells = [cell for row in table.rows for cell in row.cells]
    for cell, text in zip(cells, ["Keeper", "First year", "Ann", "1801\nor so"], strict=True):
        cell.text = text
    file.add_paragraph("After the table.")
    file.save(path)
    return path


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def failure(tmp_path):
    """Read what must fail, and return the message."""

    def failure_of(name, content=None):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DocumentError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return failure_of


def test_text_is_read_as_it_is(tmp_path):
    path = tmp_path / "story.md"
    path.write_bytes("\ufeff# Title\r\n\r\n    code\r\nÉtude\n".encode())
    document = read(str(path))
    assert document.text == "# Title\n\n    code\nÉtude"
    assert (document.name, document.skipped) == ("story.md", ())
    assert document.sha256 == hashlib.sha256(document.text.encode()).hexdigest()
    assert document == read(path)


def test_utf_16_with_its_mark_is_read(tmp_path):
    for encoding in ("utf-16", "utf-32"):
        (tmp_path / "notes.txt").write_bytes("Grüße".encode(encoding))
        assert read(tmp_path / "notes.txt").text == "Grüße"


def test_from_text():
    document = Document.from_text("one\r\ntwo ", name="note")
    assert document.text == "one\ntwo"
    assert document.sha256 == Document.from_text("one\ntwo").sha256
    assert document.page_at(6) == document.pages[0]
    with pytest.raises(DocumentError, match="note: the text is empty"):
        Document.from_text(" \n\0", name="note")


def test_pdf_keeps_its_pages(tmp_path):
    document = read(write_pdf(tmp_path / "a.pdf", [["One first.", "One next."], ["Two."], ["Three."]]))
    assert [document.text[page.start : page.end] for page in document.pages] == [
        "One first.\nOne next.",
        "Two.",
        "Three.",
    ]
    assert [(page.source, page.number) for page in document.pages] == [("a.pdf", n) for n in (1, 2, 3)]
    assert document == read(tmp_path / "a.pdf")


def test_page_at(tmp_path):
    document = read(write_pdf(tmp_path / "a.pdf", [["One."], ["Two."]]))
    assert document.text == "One.\n\nTwo."
    assert [document.page_at(offset).number for offset in (0, 3, 5, 6, 9)] == [1, 1, 1, 2, 2]
    for outside in (-1, len(document.text)):
        with pytest.raises(IndexError):
            document.page_at(outside)


def test_pdf_keeps_page_numbers_beyond_a_page_without_text(tmp_path):
    document = read(write_pdf(tmp_path / "a.pdf", [["One."], None, ["Three."]]))
    assert [page.number for page in document.pages] == [1, 3]
    assert document.skipped == ("a.pdf: no text on page 2 (blank or scanned)",)


def test_pdf_words_that_were_broken_at_a_line_are_whole(tmp_path):
    lines = ["The light-", "house of Franco-", "German make, built 1801-", "1803."]
    assert read(write_pdf(tmp_path / "a.pdf", [lines])).text == (
        "The lighthouse of Franco-German make, built 1801-\n1803."
    )


def test_pdf_is_known_without_its_suffix(tmp_path):
    write_pdf(tmp_path / "download", [["Words."]])
    assert read(tmp_path / "download").text == "Words."


def test_docx_keeps_tables_and_every_character(tmp_path):
    assert read(write_docx(tmp_path / "a.docx")).text == (
        "# The lighthouse\n\n"
        "AT&T paid if x < y\tand y > z.\n\n"
        "- oil\n\n"
        "| Keeper | First year |\n| Ann | 1801 or so |\n\n"
        "After the table."
    )


def test_docx_as_its_reader_sees_it(tmp_path):
    word = '<w:%s xmlns:w="urn:word" xmlns:mc="urn:compatibility">%s</w:%s>'
    body = (
        "<w:p><w:r><w:t>Kept</w:t></w:r><w:ins><w:r><w:t>, added</w:t></w:r></w:ins>"
        "<w:del><w:r><w:delText>, deleted</w:delText></w:r></w:del>"
        "<w:moveFrom><w:r><w:t>, moved</w:t></w:r></w:moveFrom></w:p>"
        "<w:p><mc:AlternateContent><mc:Choice><w:p><w:r><w:t>Boxed</w:t></w:r></w:p></mc:Choice>"
        "<mc:Fallback><w:p><w:r><w:t>Boxed</w:t></w:r></w:p></mc:Fallback></mc:AlternateContent>"
        "<w:r><w:t>Beside</w:t></w:r></w:p>"
    )
    note = "<w:p><w:r><w:t>A foot note.</w:t></w:r></w:p>"
    parts = {"document": body, "footnotes": note}
    data = zipped({f"word/{name}.xml": word % (name, part, name) for name, part in parts.items()})
    (tmp_path / "a.docx").write_bytes(data)
    assert read(tmp_path / "a.docx").text == "Kept, added\n\nBoxed\n\nBeside\n\nA foot note."


def test_html_is_prose_without_scripts_links_and_pictures(tmp_path):
    (tmp_path / "a.html").write_text(
        "<!doctype html><html><head><title>Bees &amp; co</title><style>p {color: red}</style>"
        "<meta name='description' content='unseen'><script>var unseen = 1;</script></head><body>"
        "<h1>Bees</h1><p>They make <a href='http://example.org/'>honey</a> if x &lt; y."
        "<img src='data:image/png;base64,AAAA' alt='unseen'></p><!-- unseen -->"
        "<div>In a box.</div><dl><dt>Term</dt><dd>Meaning</dd></dl>"
        "<table><tr><th>Name</th><th>Age</th></tr><tr><td>Ann</td><td>30</td></tr></table></body></html>",
        encoding="utf-8",
    )
    text = read(tmp_path / "a.html").text
    assert text.startswith("Bees & co\n\n# Bees\n\nThey make honey if x < y.\n\nIn a box.\n\nTerm\nMeaning")
    assert text.split("\n")[-3:] == ["| Name | Age |", "| --- | --- |", "| Ann | 30 |"]
    assert not [junk for junk in ("unseen", "color", "AAAA", "example.org") if junk in text]


def test_html_in_the_encoding_that_it_declares(tmp_path, failure):
    page = "<html><head>%s</head><body><p>“Café”</p></body></html>"
    declared = page % '<meta http-equiv="Content-Type" content="text/html; charset=ISO-8859-1">'
    (tmp_path / "a.html").write_bytes(declared.encode("windows-1252"))
    assert read(tmp_path / "a.html").text == "“Café”"
    (tmp_path / "a.html").write_bytes(declared.encode())  # a declaration that is wrong, as they often are
    assert read(tmp_path / "a.html").text == "“Café”"
    assert "nor UTF-8 text" in failure("b.html", (page % "").encode("windows-1252"))
    unknown = page % '<meta charset="klingon">'
    assert "nor klingon text" in failure("b.html", unknown.encode("windows-1252"))


def test_folder_is_read_in_order_with_names(tmp_path):
    folder = tmp_path / "library"
    for name in ("b.md", "a/z.py", "a/y/x.txt", ".git/config", ".hidden.md", "__pycache__/c.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"Text of {name}", encoding="utf-8")
    write_pdf(folder / "c.pdf", [["First."], ["Second."]])
    document = read(folder)
    assert document.name == "library"
    assert document.text == (
        "File: a/y/x.txt\n\nText of a/y/x.txt\n\nFile: a/z.py\n\nText of a/z.py\n\n"
        "File: b.md\n\nText of b.md\n\nFile: c.pdf\n\nFirst.\n\nSecond."
    )
    assert [page.source for page in document.pages] == ["a/y/x.txt", "a/z.py", "b.md", "c.pdf", "c.pdf"]
    assert document.page_at(document.text.index("File: b.md")).source == "b.md"
    assert document.page_at(document.text.index("Second.")).number == 2
    assert document.skipped == ()


def test_folder_reports_what_it_skips(tmp_path):
    write_docx(tmp_path / "good.docx")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "old.txt").write_bytes("Café".encode("latin-1"))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    (tmp_path / "gone.md").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.txt")
    write_pdf(tmp_path / "scan.pdf", [None])
    document = read(tmp_path)
    assert {page.source for page in document.pages} == {"good.docx"}
    assert [line.split(":")[0] for line in document.skipped] == [
        *("empty.txt", "gone.md", "old.txt", "picture.png", "pipe.txt", "scan.pdf")
    ]


def test_folder_without_anything_to_read(tmp_path, failure):
    folder = tmp_path / "library"
    folder.mkdir()
    assert "holds no file" in failure("library")
    (folder / "a.zip").write_bytes(b"PK\x03\x04\0\0")
    assert "nothing in this folder can be read (a.zip: not a format" in failure("library")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_missing_permission(tmp_path, failure):
    (tmp_path / "library" / "sealed").mkdir(parents=True)
    (tmp_path / "library" / "open.txt").write_text("Words.")
    (tmp_path / "secret.txt").write_text("Words.")
    (tmp_path / "library" / "sealed").chmod(0)
    (tmp_path / "secret.txt").chmod(0)
    assert "Permission denied" in failure("secret.txt")
    assert read(tmp_path / "library").skipped[0].startswith("sealed: cannot be read (Permission denied)")
    (tmp_path / "library" / "sealed").chmod(0o700)


def test_what_cannot_be_opened_says_why(tmp_path, failure, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "secret.txt").write_text("Words.")
    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    assert "cannot be read (Permission denied); check" in failure("secret.txt")


def test_errors_of_single_files(tmp_path, failure):
    assert "no such file or folder" in failure("missing.txt")
    assert "the file is empty" in failure("a.pdf", b"")
    assert "the file is empty" in failure("a.txt", b" \n\n")
    assert "holds no text" in failure("a.txt", b"\xef\xbb\xbf")
    assert "holds no text" in failure("a.html", b"<html><body><script>1</script></body></html>")
    assert "not a format that can be read" in failure("a.bin", bytes(range(256)))
    assert "not a format that can be read" in failure("a.ps", b"%!PS-Adobe-3.0")
    assert "an old Office file, or one locked" in failure("a.doc", b"\xd0\xcf\x11\xe0" + bytes(512))
    latin = failure("a.txt", "Le café".encode("latin-1"))
    assert "nor UTF-8 text (see byte 6)" in latin
    assert "iconv" in latin


def test_errors_of_pdf(tmp_path, failure):
    whole = write_pdf(tmp_path / "whole.pdf", [["Words."]] * 3).read_bytes()
    assert "damaged or cut-off PDF" in failure("cut.pdf", whole[: len(whole) // 2])
    assert "damaged or cut-off PDF" in failure("cut.pdf", b"This is no PDF.")
    write_pdf(tmp_path / "scan.pdf", [None, None])
    assert "seems to be scanned; run OCR first" in failure("scan.pdf")
    write_pdf(tmp_path / "locked.pdf", [["Words."]], encrypt="secret")
    assert "locked with a password" in failure("locked.pdf")


def test_errors_of_docx(tmp_path, failure):
    whole = write_docx(tmp_path / "whole.docx").read_bytes()
    assert "damaged or cut-off DOCX" in failure("cut.docx", whole[: len(whole) // 2])
    assert "damaged or cut-off DOCX" in failure("zip.docx", zipped({"hello.txt": "Words."}))
    assert "damaged or cut-off DOCX" in failure("xml.docx", zipped({"word/document.xml": "<a><b></a>"}))
    assert "locked with a password" in failure("locked.docx", base64.b64decode("0M8R4KGxGuE=") + bytes(512))
    docx.Document().save(tmp_path / "blank.docx")
    assert "holds no text" in failure("blank.docx")


def test_plain_text_loads_no_converter(tmp_path):
    (tmp_path / "a.txt").write_text("Words.")
    code = (
        "import sys; from precis.text.document import read; read(sys.argv[1]); "
        "assert not {'kreuzberg', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.txt"], check=True)
