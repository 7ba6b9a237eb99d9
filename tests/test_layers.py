"""Who may import whom, read from the source: no layer knows one above it, and no import runs in a circle."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sam_droplet"

# What each part of the package may import from the others. Doors are web, cli and training.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors"},
    "imaging": {"errors"},
    "segmentation": {"errors", "config", "imaging"},
    "measurement": {"errors", "imaging"},
    "pipeline": {"errors", "config", "imaging", "segmentation", "measurement"},
    "service": {"errors", "config", "imaging", "measurement"},
    "training": {"errors", "config", "imaging", "segmentation", "measurement", "pipeline"},
    "web": {"errors", "config", "imaging", "measurement", "pipeline", "service"},
    "cli": {
        "errors",
        "config",
        "imaging",
        "segmentation",
        "measurement",
        "pipeline",
        "service",
        "cli_options",
        "cli_assay",
        "cli_batch",
        "cli_rerun",
        "cli_benchmark",
        "cli_train",
    },
    "cli_options": {"errors", "config", "imaging", "measurement"},
    "cli_assay": {"cli_options", "errors", "config", "imaging", "measurement", "pipeline"},
    "cli_rerun": {"cli_options", "errors", "config", "imaging", "measurement"},
    "cli_batch": {"cli_options", "errors", "config", "imaging", "measurement", "pipeline"},
    "cli_benchmark": {"errors", "config", "pipeline"},
    "cli_train": {"errors", "config", "segmentation"},
    "__main__": {"cli"},
}
# The command line starts the other doors, but only once the command is known.
CLI_IMPORTS_LATE = {"training", "web"}

# Which parts may import a library; libraries that are not named here are free for every part.
ONLY_IN: dict[str, set[str]] = {
    "torch": {"segmentation", "training"},
    "safetensors": {"segmentation", "training"},
    "flask": {"web"},
    "flask_limiter": {"web"},
    "werkzeug": {"web"},
    "sqlalchemy": {"service"},
    "dotenv": {"config"},
    "tifffile": {"imaging", "measurement"},
    "magic": {"imaging"},
}
STANDARD_LIBRARY_ONLY = {"errors": set(), "config": {"dotenv"}}


@dataclass(frozen=True)
class Import:
    """One import statement: the full module name, and whether it runs when its module is imported.

    Imports in functions run later and those under TYPE_CHECKING never.
    """

    by: str
    name: str
    line: int
    at_import: bool

    def __str__(self) -> str:
        return f"{self.by}:{self.line} imports {self.name}"


def _module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _sources() -> dict[str, ast.Module]:
    return {
        _module_name(path): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def _part(module: str) -> str:
    """The layer of one of our modules: its name below the package, "" for the package itself."""
    return [*module.split("."), ""][1]


def _walk(node: ast.AST, late: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        child_late = late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            child_late = True
        yield child, child_late
        yield from _walk(child, child_late)


def _imports_of(module: str, tree: ast.Module) -> Iterator[Import]:
    for node, late in _walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno, not late)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: imports are written in full"
            source = node.module or ""
            for alias in node.names:
                full = f"{source}.{alias.name}"
                yield Import(module, full if full in _sources() else source, node.lineno, not late)


@cache
def _all_imports() -> tuple[Import, ...]:
    return tuple(found for module, tree in _sources().items() for found in _imports_of(module, tree))


def _ours(name: str) -> bool:
    return name.split(".")[0] == "sam_droplet"


def test_every_part_has_its_rule() -> None:
    parts = {_part(module) for module in _sources()} - {""}
    assert parts <= set(MAY_IMPORT), "a new part of the package needs a line in MAY_IMPORT and in the design"


def test_layers_import_downward_only() -> None:
    wrong = []
    for found in _all_imports():
        own, other = _part(found.by), _part(found.name)
        if not _ours(found.name) or other in ("", own) or not own:
            continue
        late_door = (
            own in ("cli", "cli_benchmark", "cli_train") and other in CLI_IMPORTS_LATE and not found.at_import
        )
        if other not in MAY_IMPORT[own] and not late_door:
            wrong.append(str(found))
    assert wrong == []


def test_libraries_stay_where_they_belong() -> None:
    wrong = []
    for found in _all_imports():
        allowed = ONLY_IN.get(found.name.split(".")[0])
        if allowed is not None and _part(found.by) not in allowed:
            wrong.append(str(found))
    assert wrong == []


def test_errors_and_config_need_the_standard_library_alone() -> None:
    wrong = []
    for found in _all_imports():
        extra = STANDARD_LIBRARY_ONLY.get(_part(found.by))
        top = found.name.split(".")[0]
        if extra is not None and not _ours(found.name) and top not in sys.stdlib_module_names | extra:
            wrong.append(str(found))
    assert wrong == []


def test_only_config_reads_the_environment() -> None:
    names = {"environ", "environb", "getenv", "getenvb"}
    wrong = []
    for module, tree in _sources().items():
        for node in ast.walk(tree):
            read = isinstance(node, ast.Attribute) and node.attr in names and ast.unparse(node.value) == "os"
            taken = (
                isinstance(node, ast.ImportFrom)
                and node.module == "os"
                and any(a.name in names for a in node.names)
            )
            if (read or taken) and _part(module) != "config":
                wrong.append(f"{module}: {ast.unparse(node)}")
    assert wrong == []


def _needed_at_import() -> dict[str, set[str]]:
    """Our modules and the modules of ours that run when they are imported, parent packages included."""
    graph: dict[str, set[str]] = {module: set() for module in _sources()}
    for found in _all_imports():
        if found.at_import and _ours(found.name):
            graph[found.by].add(found.name)
    return graph


def test_no_import_runs_in_a_circle() -> None:
    graph = _needed_at_import()
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module not in done:
            for following in sorted(graph.get(module, ())):
                visit(following, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())
    assert done == set(graph)


def _reached(start: str) -> dict[str, str]:
    """Every module that importing ``start`` runs, with the import that brings it in."""
    by_module: dict[str, list[Import]] = {}
    for found in _all_imports():
        if found.at_import:
            by_module.setdefault(found.by, []).append(found)
    reached = {start: "start"}
    waiting = [start]
    while waiting:
        module = waiting.pop()
        for found in by_module.get(module, []):
            parents = [".".join(found.name.split(".")[: i + 1]) for i in range(found.name.count(".") + 1)]
            for name in parents:
                if name not in reached:
                    reached[name] = str(found)
                    waiting.append(name)
    return reached


@pytest.mark.parametrize(
    "door", ["sam_droplet.web", "sam_droplet.service.workbench", "sam_droplet.config", "sam_droplet.cli"]
)
def test_importing_a_door_does_not_bring_in_torch(door: str) -> None:
    """The master of the production server imports the web application and forks: torch must come later."""
    if door not in _sources():
        pytest.skip(f"{door} does not exist yet")
    assert "torch" not in _reached(door), _reached(door)["torch"]


def test_imports_are_told_apart_by_when_they_run() -> None:
    source = (
        "import os, torch.nn\n"
        "from sam_droplet.imaging import masks\n"
        "if TYPE_CHECKING:\n    from flask import Flask\n"
        "def late():\n    from sam_droplet.web import create_app\n"
    )
    found = {(i.name, i.at_import) for i in _imports_of("sam_droplet.x", ast.parse(source))}
    assert found == {
        ("os", True),
        ("torch.nn", True),
        ("sam_droplet.imaging.masks", True),
        ("flask", False),
        ("sam_droplet.web", False),
    }
    assert _part("sam_droplet.imaging.masks") == "imaging"
    assert _part("sam_droplet") == ""
