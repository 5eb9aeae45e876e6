"""What inference reads of a history: closed epochs, missing outcomes, propensities given a response."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit import Bandit
from bandit.arrays import FloatArray
from bandit.experiment import Experiment
from bandit.history import History
from bandit.inference.label import log_e_higher, log_e_lower
from bandit.inference.observed import (
    FEWEST_TO_RESPOND,
    Observed,
    earlier,
    given_response,
    observe,
    observe_response,
    pair_shares,
)
from bandit.inference.scores import total_scores
from bandit.ledger import Ledger, exact_row
from bandit.measures import measures_of
from tests.bandit.inference.making import make_observed, make_p, of_counts
from tests.bandit.making import make_experiment

SEEDS = st.integers(0, 10_000)
NUMERIC = {"metric": "score", "kind": "numeric"}
IGNORE = {"missing": "ignore"}


def make_history(
    experiment: Experiment,
    seed: int = 1,
    *,
    n_epochs: int = 4,
    closed: int | None = None,
    response: float = 1.0,
) -> tuple[History, list[list[FloatArray]]]:
    """Return random users of two arms, and the goal's outcomes of those who answered, by epoch and arm."""
    rng, origin = np.random.default_rng(seed), 0.0
    assigned = rng.integers(0, 9, (n_epochs, 2))
    answered = rng.binomial(assigned, response)
    outcomes = [[rng.integers(0, 2, size).astype(np.float64) for size in row] for row in answered]
    measure = measures_of(experiment)[0]
    sums = np.array([[exact_row(measure, origin, ys.tolist()) for ys in row] for row in outcomes])
    ledger = Ledger(assigned, np.zeros_like(assigned), (sums,), (origin,))
    return History(ledger, n_epochs if closed is None else closed, make_p(seed, n_epochs, 2)), outcomes


@given(seed=SEEDS)
def test_earlier_sums_are_those_of_the_epochs_before(seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(2, 5, 3))

    for epoch in range(5):
        np.testing.assert_allclose(earlier(x)[:, epoch], x[:, :epoch].sum(axis=1), atol=1e-12)


def test_shares_of_the_pair_are_relative_to_control_and_zero_where_neither_could_be_drawn() -> None:
    p = np.array([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])

    assert pair_shares(p, 0).tolist() == [[0.5, 0.6, 0.5 / 0.7], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]


@given(seed=SEEDS)
def test_given_a_response_propensities_are_times_answers_over_those_expected_of_earlier_epochs(seed: int) -> None:
    rng, p = np.random.default_rng(seed), make_p(seed)
    assigned = rng.integers(0, 90, (5, 3)).astype(np.float64)
    n = rng.binomial(assigned.astype(int), 0.6).astype(np.float64)

    found = given_response(p, assigned, n)

    factor = [[1.0] * 3 for _ in range(5)]
    for _ in range(2):
        rates = [n[e].sum() / max(sum(assigned[e, a] * factor[e][a] for a in range(3)), 1e-300) for e in range(5)]
        factor = [
            [
                (n[:e, a].sum() + 1.0) / (sum(assigned[before, a] * rates[before] for before in range(e)) + 1.0)
                for a in range(3)
            ]
            for e in range(5)
        ]
    for epoch in range(5):
        for arm in range(3):
            known = assigned[:epoch, arm].sum() >= FEWEST_TO_RESPOND
            assert found[epoch, arm] == pytest.approx(p[epoch, arm] * factor[epoch][arm] if known else 0.0)


@pytest.mark.parametrize(("response", "factor"), [((0.2, 0.8), 1.0), ((0.8, 0.2), 1.0), ((0.3, 0.6), 1.4)])
def test_a_response_that_moves_while_traffic_and_mean_move_does_no_harm(
    response: tuple[float, float], factor: float
) -> None:
    """Equal arms, the Wald interval at the end; pooled response rates made it err in .2 to .3 of runs."""
    rng, runs, epochs = np.random.default_rng(3), 400, 60
    share, mean = np.linspace(0.2, 0.8, epochs), np.linspace(0.3, 0.6, epochs)
    p = np.broadcast_to(np.stack([1.0 - share, share], axis=-1), (runs, epochs, 2))
    assigned = rng.multinomial(500, p)
    answering = np.linspace(*response, epochs)[:, np.newaxis] * np.array([1.0, factor])
    n = rng.binomial(assigned, np.minimum(answering, 1.0))
    s = rng.binomial(n, mean[:, np.newaxis]).astype(np.float64)
    corrected = given_response(p, assigned.astype(np.float64), n.astype(np.float64))
    observed = Observed(corrected, n.astype(np.float64), s, s, s, 0.0, (0.0, 1.0), exact=False)

    scores = total_scores(observed, 0)

    z = scores.difference()[:, 1] / scores.standard_error()[:, 1]
    assert (np.abs(z) > 1.96).mean() <= 0.06 + 3.9 * math.sqrt(0.06 * 0.94 / runs)


@given(seed=SEEDS)
def test_where_everybody_responds_propensities_stay_as_they_are_once_that_is_known(seed: int) -> None:
    assigned, p = np.random.default_rng(seed).integers(50, 90, (5, 3)).astype(np.float64), make_p(seed)

    found = given_response(p, assigned, assigned)

    np.testing.assert_allclose(found[1:], p[1:])
    assert (found[0] == 0.0).all()


@given(seed=SEEDS)
def test_responses_of_an_epoch_change_no_propensity_up_to_it(seed: int) -> None:
    assigned, p = np.full((5, 3), 80.0), make_p(seed)
    n = np.random.default_rng(seed).binomial(80, 0.6, (5, 3)).astype(np.float64)
    later = n.copy()
    later[3] = 0.0

    one, other = given_response(p, assigned, n), given_response(p, assigned, later)

    assert (one[:4] == other[:4]).all()
    assert (one[4] != other[4]).any()


def test_a_large_first_epoch_of_arms_that_respond_differently_is_no_evidence() -> None:
    """Equal arms at 2 %, response .9 and .3, epochs of 500: the first one's probabilities are not known."""
    experiment = make_experiment(rewards={"missing": "ignore"})
    rng, wrong = np.random.default_rng(6), 0
    for _ in range(40):
        assigned = rng.multinomial(500, (0.5, 0.5), 8)
        n = rng.binomial(assigned, (0.9, 0.3))
        s = rng.binomial(n, 0.02)
        sums = np.stack([n, s, s, s], axis=-1).astype(np.float64)
        history = History(Ledger(assigned, np.zeros_like(assigned), (sums,), (0.0,)), 8, np.full((8, 2), 0.5))
        observed = observe(experiment, history, 0)
        wrong += bool(log_e_higher(observed, 0)[..., 1].max() >= np.log(50.0))
        wrong += bool(log_e_lower(observed, 0)[..., 1].max() >= np.log(50.0))

    assert wrong <= 3  # 1.6 by level; read with a guess of the response, all 40


def test_only_closed_epochs_are_read() -> None:
    experiment = make_experiment()
    history, _ = make_history(experiment, closed=2)

    observed = observe(experiment, history, 0)
    prefix = observe(experiment, history.upto(2), 0)

    assert observed.n.shape == (2, 2)
    for name in ("p", "n", "z", "z2", "z3"):
        assert (getattr(observed, name) == getattr(prefix, name)).all()


def test_the_worst_outcome_of_users_without_one_counts_and_leaves_propensities_alone() -> None:
    for better, worst in (("higher", 0.0), ("lower", 1.0)):
        experiment = make_experiment(goal={"better": better})
        history, outcomes = make_history(experiment, response=0.5)

        observed = observe(experiment, history, 0)

        missing = history.ledger.assigned - np.array([[len(ys) for ys in row] for row in outcomes])
        answered = np.array([[ys.sum() for ys in row] for row in outcomes])
        assert (observed.n == history.ledger.assigned).all()
        assert (observed.z == answered + worst * missing).all()
        assert observed.exact
        assert history.probabilities is not None
        assert (observed.p == history.probabilities).all()


def test_ignored_users_are_not_counted_and_propensities_are_corrected() -> None:
    experiment = make_experiment(rewards=IGNORE)
    history, outcomes = make_history(experiment, response=0.5)

    observed = observe(experiment, history, 0)

    assert observed.n.tolist() == [[len(ys) for ys in row] for row in outcomes]
    assert not observed.exact
    assert history.probabilities is not None
    np.testing.assert_allclose(
        observed.p, given_response(history.probabilities, history.ledger.assigned.astype(np.float64), observed.n)
    )


@given(seed=SEEDS)
def test_the_order_of_users_and_of_ledgers_does_not_matter(seed: int) -> None:
    experiment = make_experiment()
    (first, one), (second, two) = (make_history(experiment, s) for s in (seed, seed + 1))
    both = History(first.ledger + second.ledger, 4, first.probabilities)
    users = [[np.concatenate([b, a])[::-1] for a, b in zip(*rows, strict=True)] for rows in zip(one, two, strict=True)]

    found = total_scores(observe(experiment, both, 0), 0)

    expected = total_scores(make_observed(users, make_p(seed, 4, 2)), 0)
    np.testing.assert_allclose(found.difference()[1], expected.difference()[1])
    np.testing.assert_allclose(found.standard_error()[1], expected.standard_error()[1])


def test_without_probabilities_counts_remain_and_propensities_are_unknown() -> None:
    experiment = make_experiment()
    history, _ = make_history(experiment)

    observed = observe(experiment, History(history.ledger, 4, None), 0)

    assert np.isnan(observed.p).all()
    assert (observed.n == history.ledger.assigned).all()


def test_response_is_one_for_users_with_a_goal_value_of_all_assigned() -> None:
    history, outcomes = make_history(make_experiment(rewards=IGNORE), response=0.5)

    response = observe_response(history)

    assert (response.n == history.ledger.assigned).all()
    assert response.z.tolist() == [[len(ys) for ys in row] for row in outcomes]
    assert response.exact


@pytest.mark.parametrize(
    ("goal", "bounds", "fractional"),
    [
        ({}, (0.0, 1.0), False),
        (NUMERIC | {"range": [1, 5]}, (1.0, 5.0), True),
        (NUMERIC | {"cap": 9.0, "baseline": 4.0}, (0.0, 9.0), True),
        (NUMERIC, None, True),
    ],
)
def test_bounds_are_those_declared(goal: dict[str, Any], bounds: tuple[float, float] | None, fractional: bool) -> None:
    experiment = make_experiment(goal=goal)
    history, _ = make_history(experiment)

    observed = observe(experiment, history, 0)

    assert (observed.bounds, observed.fractional) == (bounds, fractional)


@given(seed=SEEDS, low=st.floats(-5, 0), width=st.floats(0.5, 9), origin=st.floats(-3, 3))
def test_shares_are_outcomes_and_their_squares_on_the_way_between_the_bounds(
    seed: int, low: float, width: float, origin: float
) -> None:
    u = np.random.default_rng(seed).random((3, 4))
    outcomes = [[low + width * u[0], low + width * u[1]], [low + width * u[2], np.empty(0)]]

    observed = make_observed(outcomes, np.full((2, 2), 0.5), origin=origin, bounds=(low, low + width))

    assert observed.shares == pytest.approx(np.array([[u[0].sum(), u[1].sum()], [u[2].sum(), 0.0]]), abs=1e-9)
    squares = np.array([[(u[0] ** 2).sum(), (u[1] ** 2).sum()], [(u[2] ** 2).sum(), 0.0]])
    assert observed.squared_shares == pytest.approx(squares, abs=1e-6)


def test_rounding_never_takes_shares_out_of_their_bounds() -> None:
    users = [[np.full(3, 0.1 + 0.2), np.full(3, 0.7)]]

    observed = make_observed(users, np.full((1, 2), 0.5), origin=0.1, bounds=(0.3, 0.7))

    assert (observed.shares >= 0.0).all()
    assert (observed.shares <= observed.n).all()


def test_a_quantile_guardrail_counts_calls_beyond_the_limit_not_users_whose_mean_is() -> None:
    rail = {"metric": "latency", "kind": "numeric", "quantile": 0.95, "max": 1500}
    experiment = make_experiment(guardrails=[rail], rewards={"window": "1h"})
    clock = [0.0]
    bandit = Bandit(experiment, clock=lambda: clock[0])
    for user in range(20):
        bandit.choose(f"u{user}")
        for call, latency in enumerate((100.0, 100.0, 100.0, 2000.0)):  # the mean, 575, is below the limit
            bandit.reward(f"u{user}", {"latency": latency}, request_id=f"{user}-{call}")
    for hours in (2.0, 4.0):  # the epoch ends, its users' windows do
        clock[0] = hours * 3600.0
        bandit.tick()

    observed = observe(experiment, bandit.history, 1)

    assert observed.n.sum() == 20
    assert observed.z.sum() == pytest.approx(20 * 0.25)


def truncated_runs(*, prefix_only: bool) -> FloatArray:
    """ln E against "not worse" for equal arms of which one is suspended while its slow successes are on their way.

    In the last ten epochs the arm's failures are in and only some of its successes.
    """
    rng = np.random.default_rng(5)
    n = rng.binomial(200, 0.5, (400, 30)).astype(np.float64)
    events = rng.binomial(n.astype(int), 0.3).astype(np.float64)
    n_c, events_c = 200.0 - n, rng.binomial((200 - n).astype(int), 0.3).astype(np.float64)
    events[:, -10:] = rng.binomial(events[:, -10:].astype(int), 0.3)
    users, successes = np.stack([n_c, n], axis=-1), np.stack([events_c, events], axis=-1)
    last = 20 if prefix_only else 30
    observed = of_counts(users[:, :last], successes[:, :last], np.array([[0.5, 0.5]]))
    return np.asarray(log_e_lower(observed, 0)[..., 1])


def test_epochs_whose_outcomes_were_cut_short_mislead_and_their_prefix_does_not() -> None:
    whole, prefix = truncated_runs(prefix_only=False), truncated_runs(prefix_only=True)

    assert (whole.max(axis=-1) >= math.log(40.0)).mean() > 0.5
    assert (prefix.max(axis=-1) >= math.log(40.0)).mean() <= 0.025 + 3.9 * math.sqrt(0.025 / 400)
