"""Settings of the whole suite."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# A red build repeats: examples are derandomised unless a profile is asked for by HYPOTHESIS_PROFILE=dev or deep.
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=60)
settings.register_profile("dev", deadline=None, max_examples=60)
settings.register_profile("deep", deadline=None, max_examples=3000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

LONGEST = ("test_docs.py", "test_twin.py", "test_readme.py", "test_guardrail_story.py")
"""The longest first: files with single tests of a minute or more: begun last, one core would wait for the other."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest."""
    rest = len(LONGEST)
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else rest)
