"""PDF: what stands on a page is read as its reader sees it, in the order in which they read it."""

import io
from pathlib import Path

import pytest
from PIL import Image
from reportlab.lib import colors
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen import canvas
from reportlab.platypus import Paragraph, SimpleDocTemplate, Table

from precis.text.readers.page.glyphs import Run
from precis.text.readers.page.hyphens import join, spellings
from precis.text.readers.page.lines import logical, rows
from precis.text.readers.pdf import Pdf
from precis.text.readers.reader import UnreadableError

TRIALS = Path(__file__).parent / "trials" / "pdf"
STYLE = getSampleStyleSheet()["BodyText"]


def drawn(*draw):
    """Make a PDF with a page for each function, which draws on the canvas that it is given."""
    buffer = io.BytesIO()
    pdf = canvas.Canvas(buffer, invariant=1)
    for page in draw:
        pdf.setFont("Helvetica", 11)
        page(pdf)
        pdf.showPage()
    pdf.save()
    return buffer.getvalue()


def flowed(*story):
    buffer = io.BytesIO()
    SimpleDocTemplate(buffer, invariant=1).build(list(story))
    return buffer.getvalue()


def lines(*texts, x=60, y=700, pitch=14):
    def draw(pdf):
        for number, text in enumerate(texts):
            pdf.drawString(x, y - pitch * number, text)

    return draw


def both(*draw):
    def all_of_them(pdf):
        for each in draw:
            each(pdf)

    return all_of_them


def one(data):
    """The text of a PDF of one page that there is nothing to tell of."""
    pages = Pdf().read(data)
    assert pages.notices == []
    (text,) = pages.texts
    return text


CELLS = [
    ["Berth", "Length (m)", "Fee, summer", "Fee, winter"],
    ["North quay", "12", "40", "22"],
    ["Inner basin", "15", "58", ""],
    ["Old slip", "", "12", "9"],
]
WRITTEN = (
    "| Berth | Length (m) | Fee, summer | Fee, winter |\n| --- | --- | --- | --- |\n"
    "| North quay | 12 | 40 | 22 |\n| Inner basin | 15 | 58 | |\n| Old slip | | 12 | 9 |"
)
STYLES = {
    "grid": [("GRID", (0, 0), (-1, -1), 1, colors.black)],
    "inner lines": [("INNERGRID", (0, 0), (-1, -1), 0.5, colors.black)],
    "lines above and below": [("LINEABOVE", (0, 0), (-1, 1), 1, colors.black)],
    "shades": [("ROWBACKGROUNDS", (0, 0), (-1, -1), [colors.lightgrey, colors.white])],
    "none": [],
}


@pytest.mark.parametrize("style", STYLES)
def test_tables_keep_their_cells_in_place(style):
    data = flowed(
        Paragraph(
            "The fees of the harbour were set in the year of the fire by the council of the town.", STYLE
        ),
        Table(CELLS, style=STYLES[style]),
        Paragraph("Fees are due on arrival.", STYLE),
    )
    before, table, after = one(data).split("\n\n")
    assert before.startswith("The fees of")
    assert table == WRITTEN
    assert after == "Fees are due on arrival."


def test_tables_drawn_column_by_column():
    def draw(pdf):
        for column in (2, 0, 3, 1):
            for row, cells in enumerate(CELLS):
                pdf.drawString(60 + 110 * column, 700 - 16 * row, cells[column])

    assert one(drawn(draw)) == WRITTEN


def test_tables_with_numbers_aligned_to_the_right():
    def draw(pdf):
        for row, cells in enumerate(
            [("Item", "2019", "2020"), ("Sold", "1,204.5", "3"), ("Lost", "(8)", "")]
        ):
            pdf.drawString(60, 700 - 14 * row, cells[0])
            pdf.drawRightString(200, 700 - 14 * row, cells[1])
            pdf.drawRightString(300, 700 - 14 * row, cells[2])

    assert one(drawn(draw)).split("\n")[2:] == ["| Sold | 1,204.5 | 3 |", "| Lost | (8) | |"]


@pytest.mark.parametrize("style", ["grid", "none"])
def test_cells_of_several_lines(style):
    long = Paragraph(
        "A vessel that lies at the quay for three days pays the double fee for each further day.", STYLE
    )
    table = Table(
        [["Rule", "Text", "Fee"], ["A", long, "40"], ["B", "No fee.", "0"]],
        colWidths=[60, 150, 60],
        style=[*STYLES[style], ("VALIGN", (0, 0), (-1, -1), "TOP")],
    )
    assert one(flowed(table)).split("\n")[2] == (
        "| A | A vessel that lies at the quay for three days pays the double fee for each further day. | 40 |"
    )


def test_rows_whose_first_cell_is_empty_stay_rows():
    def draw(pdf):
        rows = [("Year", "Keeper", "Fee"), ("1801", "Ann Berg", "40"), ("", "Carl", ""), ("1840", "Bo", "")]
        for row, cells in enumerate(rows):
            for column, text in enumerate(cells):
                pdf.drawString(60 + 100 * column, 700 - 14 * row, text)

    assert one(drawn(draw)).split("\n")[2:] == ["| 1801 | Ann Berg | 40 |", "| | Carl | |", "| 1840 | Bo | |"]


def test_cells_that_span_others_are_in_the_first_of_them():
    style = [*STYLES["grid"], ("SPAN", (1, 0), (2, 0)), ("SPAN", (0, 0), (0, 1))]
    table = Table([["Berth", "Fee", ""], ["", "summer", "winter"], ["N", "40", "22"]], style=style)
    assert one(flowed(table)) == (
        "| Berth | Fee | |\n| --- | --- | --- |\n| | summer | winter |\n| N | 40 | 22 |"
    )


def test_a_table_that_goes_on_overleaf_keeps_its_header():
    rows = [["Berth", "Fee", "Due"], *([f"B{number}", str(3 * number), "June"] for number in range(80))]
    pages = Pdf().read(flowed(Table(rows, repeatRows=1)))
    assert all(text.startswith("| Berth | Fee | Due |\n| --- |") for text in pages.texts)
    assert pages.notices == []


def test_numbered_lists_and_labels_are_no_tables():
    def draw(pdf):
        for number, (mark, text) in enumerate(
            [("1.", "Light it."), ("2.", "Write."), ("Name:", "Ann"), ("Born:", "1801")]
        ):
            pdf.drawString(60, 700 - 14 * number - 40 * (number > 1), mark)
            pdf.drawString(120, 700 - 14 * number - 40 * (number > 1), text)

    assert one(drawn(draw)) == "1. Light it.\n2. Write.\n\nName: Ann\nBorn: 1801"


def test_superscripts_and_subscripts():
    text = "10<super>-6</super> kg m<super>2</super> of CO<sub>2</sub>, H<sub>2</sub>SO<sub>4</sub>"
    assert one(flowed(Paragraph(f"{text}, the 21<super>st</super>", STYLE))) == (
        "10^-6 kg m^2 of CO_2, H_2SO_4, the 21st"
    )


def test_footnote_marks():
    text = "The toll<super>2</super> was 10<super>3</super> in 1841<super>3</super>.<super>4</super>"
    assert one(flowed(Paragraph(text, STYLE))) == "The toll[2] was 10^3 in 1841[3].[4]"
    assert one((TRIALS / "footnote.pdf").read_bytes()) == (
        "The toll was set in 1841[3] and doubled in 1902.\nIt fell after the war.\n\n"
        "[3] Some records give 1842."
    )


@pytest.mark.parametrize("angle", [0, 90, 180, 270])
def test_turned_pages(angle):
    data = drawn(
        both(lambda pdf: pdf.setPageRotation(angle), lines("One first.", "Two next.", "Three last."))
    )
    assert one(data) == "One first.\nTwo next.\nThree last."


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_turned_text(angle):
    def turned(pdf):
        pdf.translate(300, 400)
        pdf.rotate(angle)
        for row, cells in enumerate([("Berth", "Fee"), ("N", "40"), ("S", "31")]):
            pdf.drawString(0, -14 * row, cells[0])
            pdf.drawString(80, -14 * row, cells[1])

    assert one(drawn(both(turned))) == "| Berth | Fee |\n| --- | --- |\n| N | 40 |\n| S | 31 |"
    assert one(drawn(both(lines("Upright."), turned))).startswith("Upright.\n\n| Berth")


def test_a_watermark_is_read_whole_and_last():
    def watermark(pdf):
        pdf.saveState()
        pdf.translate(100, 300)
        pdf.rotate(45)
        pdf.drawString(0, 0, "DRAFT ONLY")
        pdf.restoreState()

    assert one(drawn(both(watermark, lines("One.", "Two.")))) == "One.\nTwo.\n\nDRAFT ONLY"


LEFT = ["The ferry to Orsund leaves at six in", "the morning from the north quay and", "carries thirty cars."]
RIGHT = [
    "Lamps on the south pier are lit at",
    "dusk by two wardens. Oil is kept in",
    "a shed behind the chapel.",
]


@pytest.mark.parametrize("below", [0, 3, 7])
def test_columns_are_read_one_after_the_other(below):
    def draw(pdf):
        pdf.drawString(60, 730, "A title that runs over both of the columns, from the left one to the right.")
        for number in range(3):
            pdf.drawString(60, 700 - 14 * number, LEFT[number])
            pdf.drawString(320, 700 - below - 14 * number, RIGHT[number])
        pdf.drawString(60, 600, "And a last line that runs over both of them once more, at the very end.")

    title, columns, last = one(drawn(draw)).split("\n\n")
    assert title.startswith("A title")
    assert columns.split("\n") == LEFT + RIGHT
    assert last.startswith("And a last line")


def test_lines_are_read_from_top_to_bottom_however_they_were_drawn():
    assert one(drawn(both(lines("Last.", y=650), lines("First.", y=678), lines("Second.", y=664)))) == (
        "First.\nSecond.\nLast."
    )


BODIES = [
    ["The keeper must check the lamp every", "hour, and must write the time into the"],
    ["green book that lies on the desk. The", "book is collected by the inspector in"],
    ["March, who signs every page of it."],
]


def test_running_heads_stand_once_and_in_no_sentence():
    pages = Pdf().read(
        drawn(
            *(
                both(lines("Lamp Manual", y=800), lines(f"Page {number} of 3", y=30), lines(*body))
                for number, body in enumerate(BODIES, start=1)
            )
        )
    )
    first, *rest = map("\n".join, BODIES)
    assert pages.texts == [f"Lamp Manual\nPage 1 of 3\n\n{first}", *rest]
    assert [notice.split(":")[0] for notice in pages.notices] == ["pages 1-3"]


def test_what_changes_from_page_to_page_is_no_running_head():
    totals = ["Total 40", "Total 17", "Total 93"]
    data = drawn(
        *(both(lines(total, y=800), lines(*body)) for total, body in zip(totals, BODIES, strict=True))
    )
    assert [text.split("\n")[0] for text in Pdf().pages(data)] == totals


def test_pages_that_are_alike_are_kept():
    assert Pdf().pages(drawn(*[lines("Words.")] * 3)) == ["Words."] * 3


def test_form_fields_stand_beside_their_labels():
    def draw(pdf):
        form = pdf.acroForm
        for y, label in ((700, "Owner"), (660, "Insured"), (620, "Flag")):
            pdf.drawString(60, y, label)
        form.textfield(name="owner", value="Ann Berg", x=160, y=695, width=200, height=18)
        form.checkbox(name="insured", x=160, y=657, size=14, checked=True)
        form.choice(
            name="flag", value="Norway", options=["Norway", "Sweden"], x=160, y=615, width=90, height=18
        )

    assert one(drawn(draw)).split("\n") == ["Owner Ann Berg", "Insured [x]", "Flag Norway"]


def test_hebrew_is_in_the_order_in_which_it_is_spoken():
    assert one((TRIALS / "rtl_hebrew.pdf").read_bytes()).split("\n") == [
        "הנמל נסגר בשעה 21:30 בכל ערב",
        "מחיר העגינה הוא 40 שקלים",
        "המפקח בודק את המגדלור (כל יום)",
    ]


def test_right_to_left_lines_as_they_are_seen():
    assert logical("12.5 םולש") == "שלום 12.5"
    assert logical("in Latin only") == "in Latin only"
    assert logical(")םוי( םולש") == "שלום (יום)"
    assert logical("the word םולש here") == "the word שלום here"


def test_letters_of_one_glyph_keep_their_order():
    runs = [
        Run(letter, x, x + 5, 0, 10, order)
        for order, (letter, x) in enumerate([("س", 20), ("ل", 10), ("ا", 10)])
    ]
    (((line,)),) = rows([*runs, Run("م", 0, 5, 0, 10, 3)])
    assert line.text == "سلام"


def test_glyphs_without_unicode_are_told_of():
    pages = Pdf().read((TRIALS / "lig_no_tounicode.pdf").read_bytes())
    assert pages.texts[0].startswith("The o\ufffdce \ufffdled a re\ufffdection")
    assert pages.notices == ["page 1: 13 % of the glyphs have no Unicode; \ufffd stands for them"]


def scan(stamp):
    def draw(pdf):
        pdf.drawImage(ImageReader(Image.new("RGB", (60, 84), "grey")), 0, 0, 595, 842)
        pdf.drawString(60, 20, stamp)

    return draw


def test_scans_with_a_stamp_are_refused_or_told_of():
    with pytest.raises(UnreadableError, match="seems to be scanned"):
        Pdf().read(drawn(*[scan(f"Archive - {number}") for number in range(3)]))
    with pytest.raises(UnreadableError, match="seems to be scanned"):
        Pdf().read(drawn(scan("Archive")))
    pages = Pdf().read(drawn(lines("Words."), scan("Archive")))
    assert pages.texts == ["Archive\n\nWords.", ""]
    assert pages.notices == ["page 2: a picture with hardly any text; if it is scanned, run OCR first"]


def test_words_at_the_ends_of_lines():
    broken = [
        *(
            "A long-term plan, well-",
            "planned by the micro-",
            "organisms of the sub-",
            "committee; self-",
            "made,",
        ),
        *("twenty-", "five, the co-", "operation. The sub-committee met. Hafen- und See-", "dienst"),
    ]
    assert join(broken, spellings(broken)) == (
        "A long-term plan, well-planned by the microorganisms of the sub-committee; self-made,\n"
        "twenty-five, the co-operation. The sub-committee met. Hafen- und Seedienst"
    )
    assert join(["Der Hafen-", "und Seedienst"]) == "Der Hafen- und Seedienst"
    assert join(["he came -", "and went"]) == "he came -\nand went"


def test_addresses_at_the_ends_of_lines():
    assert (
        join(["see http://a.example/rules-", "of-harbour and"]) == "see http://a.example/rules-of-harbour and"
    )
    assert join(["www.a.example/fees/", "summer-2024.html"]) == "www.a.example/fees/summer-2024.html"
    assert join(["mail ann-", "berg@a.example"]) == "mail ann-berg@a.example"
    assert join(["see http://a.example/", "and go"]) == "see http://a.example/\nand go"


def test_a_word_broken_by_the_end_of_a_page_is_whole():
    assert Pdf().pages(drawn(lines("The light-"), lines("house of 1801."))) == ["The lighthouse", "of 1801."]


def test_the_same_file_gives_the_same_text():
    data = flowed(Table(CELLS, style=STYLES["grid"]), Paragraph("Words.", STYLE))
    assert Pdf().read(data) == Pdf().read(data)
