"""Files as people have them, each with what it must say; those in `trials/` were read wrongly once."""

from pathlib import Path

import pytest

from precis.text.document import read

TRIALS = Path(__file__).parent / "trials"
TABLE = "| Berth | Fee |\n| --- | --- |\n| North | 40 |"
TEXTS = {
    "docx/numbered_clauses.docx": (
        "# 1. Definitions\n\n1.1 Berth means a mooring place.\n\n1.2 Fee means the sum in clause 2.1.\n\n"
        "# 2. Payment\n\n2.1 The tenant pays forty crowns.\n\n(a) in cash, or\n\n(b) by bank order.\n\n"
        "2.2 Clause 2.1 does not bind the wardens."
    ),
    "docx/footnotes.docx": (
        "The toll was set in 1841[1] and doubled in 1902[2].\n\n[1] Some records give 1842.\n\n"
        "[2] By decree of the council."
    ),
    "docx/header_footer.docx": (
        "Header: Contract no. 4711, Orsund Harbour\n\nThe tenant pays forty crowns.\n\n"
        "Footer: Valid until 31 May 2027"
    ),
    "docx/equations.docx": "The load is computed so:\n\nL=(a+b)/(2c)+x^2\n\nwhere √c is the root.",
    "docx/german_headings.docx": (
        "Die Gebühr ist vierzig Kronen.\n\n# Hafenordnung\n\n# Liegeplätze\n\n## Gebühren"
    ),
    "docx/document2.docx": (
        "To start the lamp:\n\n1. Open the valve.\n\n2. Wait two minutes.\n\n3. Press the red button."
    ),
    "other/mail.eml": "From: a@orsund.example\nSubject: Gebühr\n\nThe fee is 40.",
    "other/note.ipynb": "# Fees\nThe fee is **40**.\n\n```python\nfee = 40\n```",
    "other/zwsp.txt": "harbour closes at nine evil end tag",
    "other/front.md": (
        "---\ntitle: Fees\ndate: 2026-01-02\ntags: [a, b]\n---\n\n# Fees\n\n<!-- editor: check -->\n\n"
        "| Berth | Fee |\n|---|---|\n| North | 40 |\n\n```python\nx = 1\n```\n\n"
        "[link](http://orsund.example/very/long?x=1) ![img]()\n\nText[^1].\n\n[^1]: A note."
    ),
    "formats/a.odt": (
        "# Fees & more\n\nThe rate is 10^-6 a < year.[1]\n\n[1] Since 1842.\n\n"
        "1. One\n\n(a) sub\n\n2. Two\n\n"
        "| Berth | | Fee |\n| --- | --- | --- |\n| N | x | 40 |"
    ),
    "formats/a.pptx": (
        "# Fees\n\n(a) in cash\n(b) 10^-6\n\n| Berth | Fee |\n| --- | --- |\n| N | 40 |\n\n"
        "Notes: Say it slowly."
    ),
    "formats/a.epub": "# One\n\nFee < 40.\n\n# Two\n\nFee < 40.",
    "formats/fees.xlsx": (
        "# Fees\n\nFees of 2026\n\n| Berth | Fee | Share |\n| --- | --- | --- |\n| North\\|x | 40 | 40% |\n"
        "| | 2026-01-02 | |\n| both | | 3 |"
    ),
    "formats/letter.rtf": (
        f"Header: Contract 4711\n\nThe café € fee^2 is 10^-6[1] and {{x}}.\n\n[1] Set in 1842.\n\n"
        f"1.\tFirst Пр.\n\n{TABLE}\n\n# After link\n\nend"
    ),
    "formats/talk.srt": "The fee is 40.",
    "formats/talk.vtt": "Ann: The fee is 40 & more.\nSince 1841.",
    "formats/saved.mhtml": "# Fees\n\nCafé: 40 < 50",
}
NOTICES = {
    "docx/header_footer.docx": ("beginning of the text: Contract no. 4711", "end of the text: Valid until"),
    "other/mail.eml": ("its attachment is not read: a part without a name (application/pdf)",),
    "other/note.ipynb": ("1 of its outputs are pictures",),
    "other/front.md": ("1 picture or other data within the text left out",),
    "formats/fees.xlsx": ("hidden sheets are left out: Secret", "1 formulas without a stored result"),
    "formats/letter.rtf": ("1 picture", "headers and footers stand once"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_trial(name):
    document = read(TRIALS / name)
    assert document.text == TEXTS[name]
    assert document == read(TRIALS / name)
    found = NOTICES.get(name, ())
    assert len(document.notices) == len(found)
    for notice, part in zip(document.notices, found, strict=True):
        assert notice.startswith(f"{document.name}: ")
        assert part in notice


def test_every_trial_of_these_kinds_has_its_text():
    kinds = ("docx", "other", "formats")
    files = {path.relative_to(TRIALS).as_posix() for kind in kinds for path in (TRIALS / kind).iterdir()}
    assert files == set(TEXTS)
