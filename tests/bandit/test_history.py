from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bandit.errors import InvalidInput
from bandit.history import History
from bandit.ledger import Ledger


def make_history(**changes: Any) -> History:  # noqa: ANN401 (fields of a history or its ledger)
    n = np.array([[10, 10], [20, 30]])
    sums = np.stack([n * 0.9, n * 0.3, n * 0.3, n * 0.3], axis=-1)
    ledger = Ledger(n, np.zeros_like(n), (sums,), (0.0,))
    of_ledger = {key: changes.pop(key) for key in ("assigned", "moved", "sums") if key in changes}
    fields: dict[str, Any] = {
        "ledger": replace(ledger, **of_ledger),
        "closed_epochs": 1,
        "probabilities": np.array([[0.5, 0.5], [0.4, 0.6]]),
        "started_at": np.array([0.0, 60.0]),
        "now": 90.0,
    }
    return History(**(fields | changes))


def test_the_closed_part_has_the_closed_epochs_alone() -> None:
    closed = make_history().closed

    assert closed.ledger.n_epochs == closed.closed_epochs == 1
    assert closed.probabilities is not None
    assert closed.probabilities.tolist() == [[0.5, 0.5]]
    assert closed.users.tolist() == [20.0]


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"closed_epochs": 3}, "closed_epochs", "received 3, allowed: 0 to 2"),
        ({"probabilities": np.array([[0.5, 0.5]])}, "probabilities", "received shape (1, 2), allowed: (2, 2)"),
        ({"probabilities": np.array([[0.5, 0.5], [0.4, 0.5]])}, "probabilities", "sum to 1"),
        ({"probabilities": np.array([[0.5, 0.5], [np.nan, 0.5]])}, "probabilities", "sum to 1"),
        ({"probabilities": np.array([[0.5, 0.5], [-0.5, 1.5]])}, "probabilities", "numbers from 0 to 1"),
        ({"probabilities": np.array([[1.0, 0.0], [0.4, 0.6]])}, "probabilities", "received 0 for an arm that users"),
        ({"started_at": np.array([60.0, 0.0])}, "started_at", "go back"),
        ({"started_at": np.array([0.0, np.inf])}, "started_at", "not finite"),
        ({"started_at": np.array([0.0])}, "started_at", "a time for each epoch"),
        ({"moved": np.array([[11, 0], [0, 0]])}, "ledger", "moved users"),
        ({"assigned": np.array([[10, 10]])}, "ledger", "received shapes [(1, 2), (2, 2), (2, 2, 4)]"),
        ({"sums": (np.full((2, 2, 4), np.nan),)}, "ledger.sums[0]", "no finite number"),
        ({"sums": (np.full((2, 2, 4), 99.0),)}, "ledger.sums[0]", "above its assigned ones"),
    ],
)
def test_what_cannot_have_happened_is_refused_by_name(changes: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        make_history(**changes)

    assert field in [problem.field for problem in caught.value.problems]
    assert words in str(caught.value)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        make_history(closed_epochs=-1, started_at=np.array([1.0, 0.0]))

    assert {problem.field for problem in caught.value.problems} == {"closed_epochs", "started_at"}
