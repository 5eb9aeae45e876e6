"""Whole epochs under guardrails, forgetting, and worlds that change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bandit import Bandit
from bandit.arrays import FloatArray
from bandit.errors import InvalidInput
from bandit.inference.shares import arm_share
from simulations.laws import Rate
from simulations.outcomes import Phase
from simulations.runner import Going, Runs, run_epochs, run_users
from simulations.world_files import parse_world
from simulations.worlds import Successes, World
from tests.bandit.making import make_experiment
from tests.simulations.making import Z, differ

HARMFUL = {"metric": "harmful", "kind": "binary", "per_user": "any", "max": 0.05}
SLOW = {"metric": "latency", "kind": "numeric", "quantile": 0.9, "max": 150.0}
COSTLY = {"metric": "cost", "kind": "numeric", "max": 2.0}
RELATIVE = {"metric": "flagged", "kind": "binary", "max_increase": 0.2}
LAWS: dict[str, Any] = {
    "resolved": 0.4,
    "harmful": 0.02,
    "latency": {"mean": 100.0, "sd": 30.0, "law": "lognormal"},
    "cost": {"mean": 1.5, "sd": 1.0, "law": "lognormal"},
    "flagged": 0.2,
}


def guarded(*rails: dict[str, Any], policy: dict[str, Any] | None = None, **worse: Any) -> World:  # noqa: ANN401 (laws)
    """Return a world of three variants: A and B as `LAWS` say, C resolves more often, but is worse in these laws."""
    asked = make_experiment(3, guardrails=list(rails), policy={"growth": 0.05, **(policy or {})})
    metrics = ["resolved", *(rail["metric"] for rail in rails)]
    laws = {metric: LAWS[metric] for metric in metrics}
    return parse_world(asked, {"variants": {"A": laws, "B": laws, "C": laws | {"resolved": 0.5} | worse}})


def run(world: World, users: int, runs: int, *, guard: bool = True, seed: int = 1) -> Runs:
    """Return runs of a world's own experiment."""
    horizons = np.full(runs, users, dtype=np.int64)
    return run_epochs(world.experiment, world.phases(guarded=guard), horizons, np.random.SeedSequence(seed))


@pytest.mark.parametrize(
    ("rail", "worse"),
    [
        (HARMFUL, {"harmful": 0.25}),
        (SLOW, {"latency": {"mean": 150.0, "sd": 30.0, "law": "lognormal"}}),
        (COSTLY, {"cost": {"mean": 4.0, "sd": 1.0, "law": "lognormal"}}),
        (RELATIVE, {"flagged": 0.5}),
    ],
    ids=lambda part: str(part)[:22],
)
@pytest.mark.parametrize("half_life", [None, 700])
def test_epoch_by_epoch_the_simulator_allocates_and_suspends_as_the_engine_does(
    rail: dict[str, Any], worse: dict[str, Any], half_life: int | None
) -> None:
    world = guarded(rail, policy={"half_life": half_life}, **worse)
    rng = np.random.default_rng(2)
    bandit = Bandit(world.experiment)
    run_users(bandit, map(str, range(2_000)), lambda _, arm: world.user(rng, arm))
    ledger = bandit.ledger
    going = Going.start(world.experiment, np.array([2_000]), world.phases())

    for number, epoch in enumerate(bandit.epochs[:-1]):
        p = going.allocation()
        assert p[0] == pytest.approx(epoch.allocation.probabilities, rel=1e-9, abs=1e-15)
        going.take_in(p, ledger.assigned[[number]], [sums[[number]] for sums in ledger.sums])

    assert going.allocation()[0] == pytest.approx(bandit.epochs[-1].allocation.probabilities, rel=1e-9, abs=1e-15)
    assert going.suspended.tolist() == [bandit.timeline.suspended.tolist()] == [[False, False, True]]
    assert bandit.epochs[-1].allocation.probabilities[2] == 0.0


def test_whole_epochs_and_single_users_are_suspended_alike() -> None:
    # A limit relative to control is judged at the end of an epoch, in both.
    users, n_runs = 480, 80
    world = guarded(RELATIVE, policy={"min_batch": 60, "kind": "fixed"}, flagged=0.52)
    rng = np.random.default_rng(5)
    suspended, on_c = np.zeros(n_runs), np.zeros(n_runs)
    for i in range(n_runs):
        bandit = Bandit(world.experiment.with_salt(f"salt-{i}"))
        run_users(bandit, map(str, range(users)), lambda _, arm: world.user(rng, arm))
        suspended[i], on_c[i] = bandit.timeline.suspended[2], bandit.ledger.assigned[:, 2].sum()

    runs = run(world, users, 3_000)

    assert runs.suspended_after is not None
    # The engine judges the last epoch when the next user comes.
    before_the_end = (~np.isnan(runs.suspended_after[:, 2]) & (runs.suspended_after[:, 2] < users)).astype(float)
    assert 0.2 < before_the_end.mean() < 0.8
    assert differ(suspended, before_the_end) < Z
    assert differ(on_c, runs.assigned[:, 2].astype(float)) < Z


def test_a_variant_that_breaks_a_limit_is_taken_away_and_control_never_is() -> None:
    world = guarded(HARMFUL, harmful=0.3)
    harm = (Rate(0.9), *world.laws["harmful"][1:])

    runs = run(replace(world, laws={**world.laws, "harmful": harm}), 3_000, 200)

    assert runs.suspended_after is not None
    after = runs.suspended_after
    assert np.isnan(after[:, 0]).all()
    assert not np.isnan(after[:, 2]).any()
    assert (runs.assigned[:, 2] <= after[:, 2]).all()
    assert runs.assigned[:, 2].mean() < 100


def test_without_guardrails_nothing_is_suspended_and_the_luck_is_the_same_until_they_act() -> None:
    world = guarded(HARMFUL, policy={"warmup": 10_000}, harmful=0.02)

    with_them, without = run(world, 600, 100), run(world, 600, 100, guard=False)

    assert without.suspended_after is None
    assert with_them.suspended_after is not None
    # In the warm-up only a suspension makes a difference.
    same = np.isnan(with_them.suspended_after).all(axis=-1)
    assert same.mean() > 0.9
    assert (with_them.assigned[same] == without.assigned[same]).all()
    assert (with_them.totals.z[same] == without.totals.z[same]).all()


def test_variants_at_their_limit_are_rarely_suspended() -> None:
    world = guarded(HARMFUL, harmful=0.05, policy={"kind": "fixed"})
    n_runs = 2_000

    runs = run(world, 6_000, n_runs)

    assert runs.suspended_after is not None
    # A guardrail has half of its arm's share, and a quarter of that is for the first limit and window.
    share = arm_share(world.experiment) / 2.0 / 4.0
    false = (~np.isnan(runs.suspended_after[:, 2])).mean()
    assert false <= share + Z * np.sqrt(share * (1.0 - share) / n_runs)
    assert np.isnan(runs.suspended_after[:, 1]).all()


def test_runs_end_each_by_itself_under_guardrails_too() -> None:
    world = guarded(HARMFUL, harmful=0.2)
    horizons = np.array([0, 1, 700, 2_500, 700])

    runs = run_epochs(world.experiment, world.phases(), horizons, np.random.SeedSequence(1))

    assert runs.assigned.sum(axis=1).tolist() == horizons.tolist()
    assert runs.suspended_after is not None
    assert not runs.suspended_after[3, 2] > 2_500


def test_a_metric_that_the_world_does_not_have_is_not_looked_at() -> None:
    world = guarded(HARMFUL, RELATIVE, harmful=0.3)
    alone = replace(world, laws={metric: own for metric, own in world.laws.items() if metric != "flagged"})

    runs = run(alone, 1_000, 50)

    assert alone.not_simulated == ("flagged",)
    assert runs.suspended_after is not None
    assert not np.isnan(runs.suspended_after[:, 2]).any()


def test_a_half_life_in_time_needs_a_clock() -> None:
    experiment = make_experiment(policy={"half_life": "7d"})
    outcomes, seeds = Successes(np.array([0.5, 0.5])), np.random.SeedSequence(1)

    with pytest.raises(InvalidInput, match="half_life = 20000") as caught:
        run_epochs(experiment, outcomes, np.array([10]), seeds)

    assert caught.value.problems[0].field == "policy.half_life"
    run_epochs(experiment.with_policy(kind="fixed"), outcomes, np.array([10]), seeds)  # forgets nothing anyway


def changing(*rates: list[float], after: int, policy: dict[str, Any] | None = None) -> tuple[World, tuple[Phase, ...]]:
    """Return a world whose rates change once."""
    asked = make_experiment(len(rates[0]), policy=policy or {})
    first, second = ({arm: {"resolved": rate} for arm, rate in zip(asked.arms, each, strict=True)} for each in rates)
    world = parse_world(asked, {"variants": first, "changes": [{"after_users": after, "variants": second}]})
    return world, world.phases()


def test_an_epoch_that_crosses_a_change_is_drawn_in_two_parts() -> None:
    policy = {"kind": "fixed", "min_batch": 100, "growth": 0.0}
    world, phases = changing([0.0, 0.0], [1.0, 1.0], after=130, policy=policy)
    horizons = np.array([100, 120, 130, 131, 180, 300, 0])

    runs = run_epochs(world.experiment, phases, horizons, np.random.SeedSequence(1))

    assert runs.in_phases.sum(axis=-1).tolist() == [
        [100, 120, 130, 130, 130, 130, 0],
        [0, 0, 0, 1, 50, 170, 0],
    ]
    assert (runs.totals.z == runs.in_phases[1]).all()  # whoever came after the change succeeds
    assert (runs.in_phases.sum(axis=0) == runs.assigned).all()
    assert runs.epochs.tolist() == [1, 2, 2, 2, 2, 3, 0]


def test_several_changes_may_fall_into_one_epoch() -> None:
    experiment = make_experiment(policy={"kind": "fixed", "min_batch": 100})
    rates = [np.full(2, rate) for rate in (0.0, 1.0, 0.0)]
    phases = tuple(Phase(first, Successes(each)) for first, each in zip((0, 10, 40), rates, strict=True))

    runs = run_epochs(experiment, phases, np.array([100]), np.random.SeedSequence(1))

    assert runs.in_phases.sum(axis=-1).ravel().tolist() == [10, 30, 60]
    assert runs.totals.z.sum() == 30


def test_a_change_to_the_same_law_changes_nothing_in_law() -> None:
    world, phases = changing([0.3, 0.4], [0.3, 0.4], after=333)
    horizons = np.full(1_500, 1_000)

    split = run_epochs(world.experiment, phases, horizons, np.random.SeedSequence(1)).assigned[:, 1]
    whole = run_epochs(world.experiment, world.outcomes, horizons, np.random.SeedSequence(2)).assigned[:, 1]

    assert differ(split, whole) < Z


def share_after(half_life: int | None, after: list[float]) -> FloatArray:
    """Return each run's share of users on arm B after a change at 2,000 of 6,000 users."""
    world, phases = changing([0.3, 0.4], after, after=2_000, policy={"half_life": half_life})
    runs = run_epochs(world.experiment, phases, np.full(150, 6_000), np.random.SeedSequence(1))
    return np.asarray(runs.in_phases[1, :, 1] / 4_000)


def test_whoever_forgets_finds_the_new_best_sooner_and_pays_where_nothing_changes() -> None:
    turned, still = [0.3, 0.2], [0.3, 0.4]

    assert share_after(500, turned).mean() < share_after(None, turned).mean() - 0.1
    assert share_after(500, still).mean() < share_after(None, still).mean() - 0.005


def test_what_is_remembered_is_the_weighted_past() -> None:
    world, phases = changing([0.3, 0.5], [0.3, 0.2], after=2_000, policy={"half_life": 500, "kind": "thompson"})

    runs = run_epochs(world.experiment, phases, np.full(20, 6_000), np.random.SeedSequence(1))

    assert runs.remembered is not None
    remembered = runs.remembered.n.sum(axis=-1)
    # Σ users × 2^(−age/500) over epochs: at most 500/ln 2 users and an epoch's own.
    assert (remembered < 500 / np.log(2) + 130).all()
    assert (remembered > 500).all()
    assert (
        run_epochs(
            world.experiment.with_policy(half_life=None), phases, np.array([50]), np.random.SeedSequence(1)
        ).remembered
        is None
    )
