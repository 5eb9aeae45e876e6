"""Logs to analyse, and the command that does it, for tests: defaults hide all that a test is not about."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bandit.arrays import FloatArray
from simulations.__main__ import main

DAY = 86_400.0
FIRST = 1_769_860_800.0


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Analyze = Callable[..., Done]


def analyze_in(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Analyze:
    """Return `bandit-sim analyze` in this process: the same `main`, without half a second of imports."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["bandit-sim", "analyze", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Done(int(left.value.code or 0), out, err)

    return run


def written(path: Path, columns: dict[str, Sequence[object] | FloatArray]) -> Path:
    """Write a CSV, column by column."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(columns)
        rows.writerows(zip(*columns.values(), strict=True))
    return path


def ab_columns(
    users: int = 2000, rate: float = 0.3, lift: float = 0.0, seed: int = 1, days: float = 10.0, share: float = 0.5
) -> dict[str, Sequence[object] | FloatArray]:
    """Return an A/B test of one row per user: user_id, variant, time, resolved, latency."""
    rng = np.random.default_rng(seed)
    treated = rng.random(users) < share
    return {
        "user_id": [f"u{i}" for i in range(users)],
        "variant": ["B" if t else "A" for t in treated],
        "time": np.round(FIRST + np.sort(rng.random(users)) * days * DAY, 3),
        "resolved": (rng.random(users) < rate + lift * treated).astype(int).tolist(),
        "latency": np.round(rng.lognormal(6.0, 0.4, users), 2),
    }
