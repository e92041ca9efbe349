"""Which files of a folder are its document: what people wrote, in the order in which they would read it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

# Made by tools or systems, and never of interest: they are left out without a word.
_UNSPOKEN_FOLDERS = {"__pycache__", "__MACOSX"}
_UNSPOKEN_FILES = re.compile(r"\..*|~\$.*|thumbs\.db|desktop\.ini|.*\.py[co]", re.IGNORECASE)
# What a folder of code has in it; only there are the names below what they seem.
_MARKS_OF_CODE = {
    *(
        ".git",
        ".gitignore",
        ".github",
        ".gitlab-ci.yml",
        "Makefile",
        "CMakeLists.txt",
        "package.json",
        "go.mod",
    ),
    *("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", "tox.ini", "Cargo.toml", "pom.xml"),
    *(
        "build.gradle",
        "build.gradle.kts",
        "Gemfile",
        "composer.json",
        "mix.exs",
        "tsconfig.json",
        "Dockerfile",
    ),
    *("package-lock.json", "yarn.lock"),
}
_BUILT = {"build", "dist", "target", "out", "_build", "site-packages", "coverage", "htmlcov"}
_VENDORED = {"vendor", "third_party", "bower_components", "Pods"}
_LOCK_FILES = {
    *("package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lockb", "bun.lock"),
    *("poetry.lock", "Pipfile.lock", "uv.lock", "pdm.lock", "Cargo.lock", "Gemfile.lock", "composer.lock"),
    *(
        "go.sum",
        "mix.lock",
        "flake.lock",
        "pubspec.lock",
        "Podfile.lock",
        "gradle.lockfile",
        "packages.lock.json",
    ),
}
_MINIFIED = re.compile(
    r".*[.-]min\.(?:js|mjs|cjs|css)|.*\.(?:js|mjs|cjs|css)\.map|.*\.bundle\.js", re.IGNORECASE
)
_DRAWINGS = {".svg", ".drawio"}
_NAMED_IGNORED = 3


@dataclass
class Listing:
    """The files below a folder.

    Attributes
    ----------
    files
        Those to read, as paths below the folder's own path, in natural order: ch2 before ch10.
    skipped
        What was left out and why, each as "path: reason".
    """

    files: list[Path] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def files_below(folder: Path) -> Listing:
    """List what is to be read below a folder.

    Hidden files and folders are left out; so are generated ones and what a `.gitignore` names, which are
    told of. Linked folders are read once, under the first of their names.
    """
    walk = _Walk(folder)
    walk.enter(folder)
    walk.listing.files.sort(key=lambda path: natural_order(path.relative_to(folder)))
    if walk.ignored:
        named = ", ".join(sorted(walk.ignored)[:_NAMED_IGNORED]) + (
            ", …" if len(walk.ignored) > _NAMED_IGNORED else ""
        )
        walk.listing.skipped.append(f".gitignore: leaves out {len(walk.ignored)} files or folders ({named})")
    walk.listing.skipped.sort()
    return walk.listing


def natural_order(path: Path) -> tuple[tuple[tuple[int, int, str], ...], ...]:
    """Return a key that orders paths as people number their chapters, small and capital letters alike."""
    return (*(_key(part) for part in path.parts), ((2, 0, str(path)),))


def _key(name: str) -> tuple[tuple[int, int, str], ...]:
    parts = re.findall(r"[0-9]+|[^0-9]+", name.casefold())
    return tuple(
        (0, int(part), "") if part[0].isdigit() and part.isascii() else (1, 0, part) for part in parts
    )


class _Walk:
    """Goes through a folder, and keeps what it has seen."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.listing = Listing()
        self.ignored: list[str] = []
        self._specs: list[tuple[Path, GitIgnoreSpec]] = []
        self._seen: set[Path] = set()

    def enter(self, folder: Path) -> None:
        """Add the files of a folder, and those of the folders in it."""
        true_path = folder.resolve()
        if true_path in self._seen:
            self._skip(folder, "a link to a folder that is read already")
            return
        self._seen.add(true_path)
        try:
            names = sorted(os.listdir(folder))  # noqa: PTH208, names alone: most are only compared
        except OSError as cause:
            self._skip(folder, f"cannot be read ({cause.strerror}); check the file and its permissions")
            return
        known = len(self._specs)
        self._read_ignore_file(folder, names)
        is_code = not _MARKS_OF_CODE.isdisjoint(names)
        # Links last: what they lead to is read under its own name if it is in this folder, too.
        paths = sorted((folder / name for name in names), key=lambda path: path.is_symlink())
        for path in paths:
            self._take(path, is_code, names)
        del self._specs[known:]

    def _take(self, path: Path, is_code: bool, names: Iterable[str]) -> None:
        if path.is_dir():
            if path.name.startswith(".") or path.name in _UNSPOKEN_FOLDERS:
                return
            if reason := _made_folder(path, is_code):
                self._skip(path, reason)
            elif not self._is_ignored(path, "/"):
                self.enter(path)
        elif not _UNSPOKEN_FILES.fullmatch(path.name):
            if reason := _made_file(path):
                self._skip(path, reason)
            elif not self._is_ignored(path, ""):
                self.listing.files.append(path)

    def _skip(self, path: Path, reason: str) -> None:
        self.listing.skipped.append(f"{path.relative_to(self.root).as_posix()}: {reason}")

    def _read_ignore_file(self, folder: Path, names: Iterable[str]) -> None:
        if ".gitignore" not in names:
            return
        from pathspec import GitIgnoreSpec  # lazily: most folders have no such file

        try:
            lines = (folder / ".gitignore").read_text("utf-8", "replace").splitlines()
            self._specs.append((folder, GitIgnoreSpec.from_lines(lines)))
        except (OSError, ValueError) as cause:
            self._skip(folder / ".gitignore", f"cannot be followed ({cause}); check it")

    def _is_ignored(self, path: Path, ending: str) -> bool:
        """Whether the nearest `.gitignore` that has a rule for a path says that it is left out."""
        for folder, spec in reversed(self._specs):
            found = spec.check_file(path.relative_to(folder).as_posix() + ending).include
            if found is not None:
                if found:
                    self.ignored.append(path.relative_to(self.root).as_posix() + ending)
                return found
        return False


def _made_folder(path: Path, is_code: bool) -> str:
    """Return why a folder is not what its owner wrote; empty where it may be."""
    if path.name == "node_modules":
        return "packages of others"
    if (path / "pyvenv.cfg").is_file() or (
        path.name in {"venv", "env", "virtualenv"} and (path / "lib").is_dir()
    ):
        return "a virtual environment"
    if is_code and path.name in _VENDORED:
        return "code of others"
    if (is_code and path.name in _BUILT) or path.name.endswith((".egg-info", ".dist-info")):
        return "made by a build"
    return ""


def _made_file(path: Path) -> str:
    """Return why a file is not what its owner wrote; empty where it may be."""
    if path.name in _LOCK_FILES:
        return "a lock file"
    if _MINIFIED.fullmatch(path.name):
        return "made by a build"
    if path.suffix.lower() in _DRAWINGS:
        return "a drawing"
    return ""
