"""The command `bandit-server`."""

from __future__ import annotations

import sys
from pathlib import Path

import bandit


def main() -> None:
    """Run the command line, if the `bandit` that was imported is the engine beside this package."""
    if Path(bandit.__file__).resolve().parent.parent != Path(__file__).resolve().parent.parent:
        sys.exit(
            f"bandit-server: the package 'bandit' at {bandit.__file__} is not this product's engine. A security "
            "linter has the same import name: install the two in different environments."
        )
    from server.cli import app  # noqa: PLC0415 - it imports the engine, which had to be checked first

    app()


if __name__ == "__main__":
    main()
