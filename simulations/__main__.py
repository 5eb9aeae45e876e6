"""The command `bandit-sim`; `python -m simulations` does the same."""

from __future__ import annotations

import sys

from bandit.errors import InvalidInput
from simulations.commands import app

WRONG_INPUT = 1
"""Exit code where a file or number is not right; misuse of the command line is 2."""


def main() -> None:
    """Run the command line; faults of the input go to standard error, a line each."""
    try:
        app(prog_name="bandit-sim")
    except InvalidInput as error:
        for problem in error.problems:
            sys.stderr.write(f"error: {problem}\n")
        sys.exit(WRONG_INPUT)


if __name__ == "__main__":
    main()
