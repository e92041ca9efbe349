"""The packages import what docs/architecture.md says, and nothing imports itself in a circle."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import precis

SOURCE = Path(precis.__file__).parent
MAP = Path(__file__).parent.parent / "docs" / "architecture.md"
# The front doors: they may import everything, and nothing imports them.
DOORS = {"precis", "__main__", "cli"}


def modules():
    """Every module's dotted name within the package, with its path."""
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


def imported_by(path, names):
    """What a module imports of the package, for type checking only included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "precis":
            home = node.module.partition(".")[2]
            for item in node.names:
                whole = f"{home}.{item.name}".strip(".")
                yield whole if whole in names else home


@pytest.fixture(scope="module")
def graph():
    found = dict(modules())
    return {name: set(imported_by(path, found)) - {name} for name, path in found.items()}


def test_no_module_imports_itself_in_a_circle(graph):
    list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_packages_import_what_the_map_says_and_no_more(graph):
    between = {}
    for name, imports in graph.items():
        package = name.partition(".")[0] or "precis"
        others = {each.partition(".")[0] or "precis" for each in imports}
        between.setdefault(package, set()).update(others - {package})
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", MAP.read_text(encoding="utf-8"), re.MULTILINE)
    said = {package: set(re.findall(r"`(\w+)`", imports)) for package, imports in rows if package != "cli"}
    assert {package: imports for package, imports in between.items() if package not in DOORS} == said
    list(TopologicalSorter(between).static_order())


def test_nothing_imports_the_front_doors(graph):
    doors = {name for name in graph if (name.partition(".")[0] or "precis") in DOORS}
    for name, imports in graph.items():
        if name not in doors:
            assert not imports & doors, name


def test_the_engine_knows_neither_requests_nor_jobs(graph):
    for name, imports in graph.items():
        if name.startswith("serve.engine"):
            assert not any(each.startswith(("serve.api", "serve.jobs", "serve.app")) for each in imports), (
                name
            )
