"""The page and the compile speak of the same stages."""

import re
from pathlib import Path

import precis.serve
from precis.compilation.stages import SHARES, Stage

WORDS = Path(precis.serve.__file__).parent / "page" / "words.js"


def test_the_page_knows_every_stage_of_a_compile_and_no_other():
    listed = re.findall(r"stages: \[([^\]]*)\]", WORDS.read_text(encoding="utf-8"))
    named = [name for part in listed for name in re.findall(r'"([^"]+)"', part)]
    assert named == [stage.value for stage in Stage]


def test_the_shares_of_all_stages_are_one_whole():
    assert list(SHARES) == list(Stage)
    assert abs(sum(SHARES.values()) - 1) < 1e-9
