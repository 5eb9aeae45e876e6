"""Settings of the whole suite."""

from __future__ import annotations

import os

from hypothesis import settings

# A red build repeats: examples are derandomised unless a profile is asked for by HYPOTHESIS_PROFILE=dev or deep.
settings.register_profile("ci", derandomize=True, deadline=None, max_examples=60)
settings.register_profile("dev", deadline=None, max_examples=60)
settings.register_profile("deep", deadline=None, max_examples=3000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
