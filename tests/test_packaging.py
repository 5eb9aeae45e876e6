"""What is installed, and under which names."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import bandit

DISTRIBUTION = importlib.metadata.distribution("adaptive-bandit")


def test_the_commands_are_ours_and_none_is_called_bandit() -> None:
    """That name belongs to a security linter."""
    assert {entry.name for entry in DISTRIBUTION.entry_points} == {"bandit-server", "bandit-sim"}


def test_nobody_else_brings_a_package_called_bandit() -> None:
    owners = importlib.metadata.packages_distributions().get("bandit", ["adaptive-bandit"])

    assert owners == ["adaptive-bandit"]
    assert (Path(bandit.__file__).parent / "timeline.py").exists()


def test_the_version_is_said_once_everywhere() -> None:
    assert bandit.__version__ == DISTRIBUTION.version


@pytest.mark.parametrize("module", ["server", "simulations"])
def test_the_modules_run_as_commands(module: str) -> None:
    helped = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True)

    assert "Usage" in helped.stdout
