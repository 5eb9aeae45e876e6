"""Worlds that are shipped: real variants, as experiment and world files to start from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from bandit.errors import InvalidInput, Problem
from bandit.wording import received, unknown_name
from simulations.files import refuse

_FILES = ("experiment.toml", "world.toml")


@dataclass(frozen=True, slots=True)
class ShippedWorld:
    """A world that is shipped.

    Attributes:
        name: What it is asked for by.
        about: What it is, in a sentence: the first lines of its file.
        source: Where the data are from, and their licence: the next ones.
    """

    name: str
    about: str
    source: str


def shipped() -> list[ShippedWorld]:
    """Return the worlds that are shipped, by name."""
    return [ShippedWorld(folder.name, *_said(folder)) for folder in _folders()]


def write_shipped(name: str, into: Path) -> list[Path]:
    """Write the experiment and the world of a shipped one into a folder, and return where they are.

    Raises:
        InvalidInput: There is no such world, the folder is not there, or a file is there already.
    """
    folders = {folder.name: folder for folder in _folders()}
    if name not in folders:
        raise InvalidInput([Problem("worlds", f"unknown world {received(name)}; {unknown_name(name, folders)}")])
    if not into.is_dir():
        refuse(into, "there is no such directory; make it first")
    paths = [into / f"{name}-{file}" for file in _FILES]
    for path in paths:
        if path.exists():
            refuse(path, "is there already; it is not overwritten")
    for path, file in zip(paths, _FILES, strict=True):
        try:
            path.write_text((folders[name] / file).read_text(encoding="utf-8"), encoding="utf-8")
        except OSError as error:
            refuse(path, f"cannot be written: {error.strerror or error}")
    return paths


def _folders() -> Iterator[Traversable]:
    where = files("simulations") / "data" / "worlds"
    yield from sorted((each for each in where.iterdir() if each.is_dir()), key=lambda each: each.name)


def _said(folder: Traversable) -> tuple[str, str]:
    """Return the comment at the head of a world: its first line, and the rest."""
    head = (folder / "world.toml").read_text(encoding="utf-8").partition("\n\n")[0]
    first, *rest = (line.removeprefix("#").strip() for line in head.splitlines())
    return first, " ".join(rest)
