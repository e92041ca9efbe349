"""Which files of a folder are read, in which order, and what is said of the others."""

import pytest

from precis.text.document import read


@pytest.fixture
def folder(tmp_path):
    """Return a function that writes files into a folder, and gives the folder."""

    def write(*names, **contents):
        for name in (*names, *contents):
            path = tmp_path / "library" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(contents.get(name, f"Text of {name}"), encoding="utf-8")
        return tmp_path / "library"

    return write


def sources(document):
    return [page.source for page in document.pages]


def test_chapters_come_in_the_order_of_their_numbers(folder):
    path = folder(
        "ch10.md", "ch2.md", "ch1.md", "README.md", "a/intro.md", "Z.md", "2/x.md", "10/x.md", "b.md"
    )
    assert sources(read(path)) == [
        *("2/x.md", "10/x.md", "a/intro.md", "b.md", "ch1.md", "ch2.md", "ch10.md", "README.md", "Z.md")
    ]


def test_a_code_folder_is_what_its_authors_wrote(folder):
    written = ["docs/guide.md", "LICENSE", "Makefile", "src/main.py"]
    made = [
        *("build/out.js", "dist/bundle.js", "node_modules/x/index.js", "package-lock.json", "src/app.min.js"),
        *("target/debug/a.d", "vendor/lib.go", "venv/lib/y.py", "yarn.lock"),
    ]
    unspoken = [".github/ci.yml", ".venv/lib/x.py", "x.pyc", "Thumbs.db", "desktop.ini", "~$doc.docx"]
    document = read(folder(*written, *made, *unspoken))
    assert sources(document) == written
    assert [line.split(":")[0] for line in document.skipped] == [
        *("build", "dist", "node_modules", "package-lock.json", "src/app.min.js", "target", "vendor", "venv"),
        "yarn.lock",
    ]


def test_a_folder_of_documents_may_use_the_names_of_code(folder):
    document = read(folder("vendor/contract.md", "build/plan.md", "out/letter.md"))
    assert sources(document) == ["build/plan.md", "out/letter.md", "vendor/contract.md"]
    assert document.skipped == ()


def test_gitignore_is_heeded(folder):
    ignore = {".gitignore": "*.log\n/private/\n!keep.log\n", "sub/.gitignore": "draft.md\n!debug.log\n"}
    path = folder(
        "a.log", "keep.log", "private/x.md", "sub/private/y.md", "sub/draft.md", "sub/debug.log", **ignore
    )
    document = read(path)
    assert sources(document) == ["keep.log", "sub/debug.log", "sub/private/y.md"]
    assert document.skipped == (".gitignore: leaves out 3 files or folders (a.log, private/, sub/draft.md)",)


def test_linked_folders_are_read_once(folder, tmp_path):
    path = folder("a/x.md")
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "y.md").write_text("Elsewhere.")
    (path / "linked").symlink_to(tmp_path / "else", target_is_directory=True)
    (path / "a" / "loop").symlink_to(path, target_is_directory=True)
    document = read(path)
    assert sources(document) == ["a/x.md", "linked/y.md"]
    assert document.skipped == ("a/loop: a link to a folder that is read already",)
