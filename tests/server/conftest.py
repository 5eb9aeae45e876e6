from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.running import Service, in_process


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bandit.db"


@pytest.fixture
def service(path: Path) -> Iterator[Service]:
    with in_process(path) as running:
        yield running
