"""The arrows between the rooms, read from the imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PURE = {"numpy", "scipy", "bandit"}
IMPURE = {"os", "io", "pathlib", "time", "datetime", "random", "secrets", "socket", "threading", "sqlite3", "logging"}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", modules("bandit"), ids=lambda p: p.name)
def test_the_engine_is_pure(path: Path) -> None:
    """No files, network, clock or global random state; pydantic in the experiment's files alone."""
    roots = {name.split(".")[0] for name in imports(path)}

    allowed = PURE | ({"pydantic", "pydantic_core"} if path.name.startswith("experiment") else set())
    third_party = {
        root for root in roots if root in {"pydantic", "pydantic_core", "fastapi", "msgspec", "rich", "typer"}
    }
    assert third_party <= allowed
    assert not roots & (IMPURE | {"server", "simulations", "tests"})
    assert "numpy.random" not in path.read_text().replace("np.random", "numpy.random")


@pytest.mark.parametrize(("package", "other"), [("server", "simulations"), ("simulations", "server")])
def test_server_and_simulator_do_not_know_each_other(package: str, other: str) -> None:
    for path in modules(package):
        assert {name.split(".")[0] for name in imports(path)}.isdisjoint({other, "tests"}), path


@pytest.mark.parametrize("package", ["bandit", "server", "simulations"])
def test_modules_do_not_import_in_circles(package: str) -> None:
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in modules(package)}
    graph = {name: {i for i in imports(path) if i in names} for name, path in names.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for following in graph[name]:
                visit(following, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())
