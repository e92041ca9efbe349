"""`precis read`: what the model will get, before anything is compiled."""

import json

import pytest
from typer.testing import CliRunner

from precis.cli.app import app
from precis.text.document import read


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "a.md").write_text("The fee is 40.")
    (folder / "b.md").write_text("![x](data:image/png;base64," + "A" * 80 + ")")
    (folder / "c.png").write_bytes(b"\x89PNG\0")
    return folder


def test_a_file_is_printed_as_it_is(folder):
    result = CliRunner().invoke(app, ["read", str(folder / "a.md")])
    assert (result.exit_code, result.stdout, result.stderr) == (0, "The fee is 40.\n", "")


def test_a_folder_names_its_files_and_tells_what_is_left_out(folder):
    result = CliRunner().invoke(app, ["read", str(folder)])
    assert result.stdout == (
        "--- a.md ---\n\nFile: a.md\n\nThe fee is 40.\n\n--- b.md ---\n\nFile: b.md\n\n![x]()\n"
    )
    assert "Left out: c.png: not a format" in result.stderr
    assert "Note: b.md: 1 picture or other data" in result.stderr


def test_json(folder):
    result = CliRunner().invoke(app, ["read", str(folder), "--json"])
    document = read(folder)
    found = json.loads(result.stdout)
    assert (found["name"], found["sha256"], found["text"]) == ("library", document.sha256, document.text)
    assert found["characters"] == len(document.text)
    assert [page["source"] for page in found["pages"]] == ["a.md", "b.md"]
    assert found["notices"] == [*document.skipped, *document.notices]
