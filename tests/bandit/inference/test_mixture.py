from __future__ import annotations

import numpy as np
import pytest

from bandit.inference.mixture import log_mean


def test_the_wealth_of_a_mixture_is_the_mean_of_the_wealths() -> None:
    logs = np.random.default_rng(1).normal(size=(5, 2, 3))

    assert np.exp(log_mean(logs)) == pytest.approx(np.exp(logs).mean(axis=0))


def test_wealths_beyond_the_range_of_a_float_keep_their_logarithm() -> None:
    logs = np.array([[1e6, -1e6], [-1e6, -1e6]])

    assert log_mean(logs) == pytest.approx([1e6 - np.log(2.0), -1e6])
