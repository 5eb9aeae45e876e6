"""Files of pictures: SVG and PNG, and the library that draws them in a browser."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from bandit.errors import InvalidInput, Problem
from simulations.charts.style import Spec
from simulations.files import refuse

SHARPNESS = 2.0
"""Pixels of a PNG for each unit of the picture: sharp on dense screens and in print."""


def converter() -> ModuleType:
    """Return vl-convert, which draws Vega-Lite without a browser or a network.

    Raises:
        InvalidInput: It is not installed.
    """
    try:
        return importlib.import_module("vl_convert")
    except ModuleNotFoundError:
        message = "pictures need vl-convert-python: pip install 'adaptive-bandit[charts]'"
        raise InvalidInput([Problem("", message)]) from None


def still(spec: Spec) -> Spec:
    """Return a picture without what only answers to a pointer: that would be most of its file."""
    layers = {"layer": [layer for layer in spec["layer"] if "params" not in layer]} if "layer" in spec else {}
    inner = {"spec": still(spec["spec"])} if "spec" in spec else {}
    return {**spec, **layers, **inner}


def svg(spec: Spec) -> str:
    """Return a picture as SVG.

    Raises:
        InvalidInput: vl-convert is not installed.
    """
    return str(converter().vegalite_to_svg(still(spec), allowed_base_urls=[]))


def png(spec: Spec) -> bytes:
    """Return a picture as PNG.

    Raises:
        InvalidInput: vl-convert is not installed.
    """
    return bytes(converter().vegalite_to_png(still(spec), scale=SHARPNESS, allowed_base_urls=[]))


def check_can_draw(directory: Path | None, page: Path | None) -> None:
    """Refuse places for pictures, or a missing renderer, before the work is done, not after.

    Args:
        directory: Where pictures go; made if it is not there but the one above it is. None: nowhere.
        page: Where the page goes, or None.

    Raises:
        InvalidInput: vl-convert is not installed, or something cannot be written there.
    """
    if directory is None and page is None:
        return
    converter()
    if directory is not None:
        if directory.exists() and not directory.is_dir():
            refuse(directory, "is a file; name a directory")
        _check_parent(directory)
    if page is not None:
        if str(page) == "-":
            refuse(page, "is no place for a page; name a file")
        if page.is_dir():
            refuse(page, "is a directory; name a file in it")
        _check_parent(page)


def _check_parent(path: Path) -> None:
    if not path.parent.is_dir():
        refuse(path, f"there is no directory '{path.parent}'; make it first")


def write_pictures(directory: Path, pictures: Mapping[str, Spec]) -> None:
    """Write each picture as SVG and as PNG; files of these names are replaced.

    Args:
        directory: Made if it is not there.
        pictures: By the name of their file, without its ending.

    Raises:
        InvalidInput: A file cannot be written.
    """
    try:
        directory.mkdir(exist_ok=True)
        for name, spec in pictures.items():
            (directory / f"{name}.svg").write_text(svg(spec), encoding="utf-8")
            (directory / f"{name}.png").write_bytes(png(spec))
    except OSError as error:
        refuse(directory, f"cannot be written: {error.strerror or error}")
