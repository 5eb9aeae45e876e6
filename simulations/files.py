"""Files in and out, with every failure in words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

import typer

from bandit.errors import InvalidInput, Problem
from bandit.experiment import Experiment, parse_json, parse_toml
from bandit.experiment_text import LARGEST_BYTES
from simulations.world_files import parse_world_json, parse_world_toml
from simulations.worlds import World

_T = TypeVar("_T")


def read_experiment(path: Path) -> Experiment:
    """Return the experiment of a .toml or .json file.

    Raises:
        InvalidInput: The file cannot be read, or what it declares is not right.
    """
    return _parsed(path, parse_toml, parse_json)


def read_world(path: Path, experiment: Experiment) -> World:
    """Return the world of a .toml or .json file.

    Raises:
        InvalidInput: The file cannot be read, or what it declares is not right for the experiment.
    """
    return _parsed(
        path,
        lambda text: parse_world_toml(experiment, text),
        lambda text: parse_world_json(experiment, text),
    )


def _parsed(path: Path, toml: Callable[[str], _T], json_: Callable[[str], _T]) -> _T:
    if path.is_dir():
        refuse(path, "is a directory; name a file in it")
    if path.suffix.lower() not in (".toml", ".json"):
        refuse(path, f"received a name that ends with '{path.suffix}', allowed: .toml or .json")
    try:
        text = read_bytes(path, LARGEST_BYTES + 1).decode()
    except UnicodeDecodeError as error:
        refuse(path, f"is not UTF-8 (at byte {error.start}); save it as UTF-8")
    with faults_in(path):
        return (toml if path.suffix.lower() == ".toml" else json_)(text)


@contextmanager
def faults_in(path: Path) -> Iterator[None]:
    """Name the file in every fault found while its content is read."""
    try:
        yield
    except InvalidInput as error:
        problems = [Problem(f"{path}: {p.field}" if p.field else str(path), p.message) for p in error.problems]
        raise type(error)(problems) from None


def read_bytes(path: Path, most: int = -1) -> bytes:
    """Return the content of a file, at most so many bytes of it.

    Raises:
        InvalidInput: There is no such file, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(most)
    except FileNotFoundError:
        refuse(path, "no such file; check the path")
    except IsADirectoryError:
        refuse(path, "is a directory; name a file in it")
    except OSError as error:
        refuse(path, f"cannot be read: {error.strerror or error}")


def check_can_write(path: Path | None) -> None:
    """Refuse a place for the result before the work is done, not after.

    Raises:
        InvalidInput: The path is a directory, or its directory does not exist.
    """
    if path is None or str(path) == "-":
        return
    if path.is_dir():
        refuse(path, "is a directory; name a file in it")
    if not path.parent.is_dir():
        refuse(path, f"there is no directory '{path.parent}'; make it first")


def write_json(path: Path, document: object) -> None:
    """Write JSON to a file, or to standard output if the path is "-".

    Raises:
        InvalidInput: The file cannot be written.
    """
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    if str(path) == "-":
        typer.echo(text)
        return
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        refuse(path, f"cannot be written: {error.strerror or error}")


def refuse(path: Path, message: str) -> NoReturn:
    """Raise an error about a file as a whole."""
    raise InvalidInput([Problem(str(path), message)])
