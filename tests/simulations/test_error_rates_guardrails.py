"""Guardrails keep their promises, and the fast runs that show it are those of the engine."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bandit import Bandit
from bandit.arrays import BoolArray, FloatArray, IntArray
from bandit.engine import allocate
from bandit.experiment import Experiment, parse
from bandit.history import History
from bandit.inference.breaches import breached, breaches, log_e_of_bets
from bandit.inference.guardrails import guardrail_evidence
from bandit.inference.observed import observe
from bandit.inference.rate_limit import log_e_above_limit
from bandit.inference.restarts import log_e_restarted
from bandit.inference.scores import total_scores
from bandit.inference.shares import breach_level
from bandit.learning import Totals
from bandit.ledger import Ledger
from bandit.limits import limit_of
from bandit.measures import guardrail_measure, measures_of
from simulations.errors.arm_users import (
    arm_epochs,
    arm_starts,
    event_users,
    information,
    looks_at_bets,
    looks_at_calls,
    looks_at_events,
    returning_events,
    shares_of_calls,
    worse_later,
)
from simulations.errors.breach_looks import ArmLooks, most_of_bets, most_of_rate, plain
from simulations.errors.certified import log_e_within_ratio, mean_before_cut
from simulations.errors.checks import Check, CheckRow, guarded
from simulations.errors.guardrail_checks import checks, until_breach
from simulations.errors.interrupted import Operator, interrupted_runs
from simulations.errors.rates import ErrorRates, chosen, error_rates
from simulations.errors.records import record_runs
from simulations.errors.scenarios import asked
from simulations.errors.steered import Relative, observed_sums, steered_runs
from simulations.errors.tables import MISSED, document
from simulations.errors.worlds import Skewed, moving_rates, rates
from simulations.scores import Estimate
from tests.bandit.making import Clock
from tests.simulations.making import Z

RUNS = 200
SHARES = (
    "at-limit-rate-0.01",
    "at-limit-p95-calls",
    "at-limit-mean-2",
    "at-limit-ratio-drift",
    "at-limit-ratio-cost-cap",
    "late-answers-500",
    "returning-0.5",
    "at-limit-8x3",
    "certified-rate",
    "certified-mean-cap",
    "certified-ratio",
    "certified-ratio-mean-1",
    "interrupted",
)
DELAYS = ("delay-0.05-1x1-2", "delay-0.05-3x3-3", "delay-0.01-3x3-1.5", "change-0.05-2", "change-0.05-3")
RARELY = 1e-4


@pytest.fixture(scope="module")
def result() -> ErrorRates:
    return error_rates(chosen([*SHARES, *DELAYS]), replications=RUNS, seed=1)


@pytest.fixture(scope="module")
def rows(result: ErrorRates) -> Mapping[str, CheckRow]:
    return {row.name: row for row in result.guardrails}


def value(row: CheckRow) -> float:
    assert row.number.value is not None
    return row.number.value


@pytest.mark.parametrize("name", SHARES)
def test_errors_are_as_rare_as_their_share_of_alpha(rows: Mapping[str, CheckRow], name: str) -> None:
    row = rows[name]
    assert row.bound is not None

    assert round(RUNS * value(row)) <= stats.binom.isf(RARELY, RUNS, row.bound)
    assert row.bound <= 0.8 * 0.05 or name == "interrupted"


@pytest.mark.parametrize("name", DELAYS)
def test_harm_is_seen_about_as_soon_as_it_can_be(rows: Mapping[str, CheckRow], name: str) -> None:
    row = rows[name]
    assert row.bound is not None
    assert row.number.error is not None

    assert value(row) <= row.bound + Z * row.number.error
    assert 0.0 < row.number.error < 0.15 * value(row)


def test_counting_those_who_answered_takes_late_clean_answers_for_harm(rows: Mapping[str, CheckRow]) -> None:
    assert value(rows["late-answers-500:those-who-answered"]) > 0.9
    assert rows["late-answers-500:those-who-answered"].bound is None


def test_counting_outcomes_that_were_cut_short_tells_equal_arms_apart(rows: Mapping[str, CheckRow]) -> None:
    assert value(rows["interrupted:cut-short"]) > 0.3
    assert rows["interrupted:cut-short"].bound is None


def test_the_json_holds_every_check_with_its_bound(result: ErrorRates) -> None:
    written = json.loads(json.dumps(result.to_dict(), allow_nan=False))

    assert written["scenarios"] == {}
    assert list(written["guardrails"]) == [row.name for row in result.guardrails]
    one = written["guardrails"]["delay-0.05-1x1-2"]
    assert (one["kind"], one["bound"], one["missed"]) == ("delay", 1.2, False)
    assert one["value"] == pytest.approx(one["median_users"] / one["against_users"])
    assert one["against_users"] == pytest.approx(math.log(200.0) / information(0.1, 0.05))
    assert written["guardrails"]["late-answers-500:those-who-answered"]["bound"] is None


def test_a_check_above_its_bound_is_marked() -> None:
    check = next(iter(checks().values()))
    row = CheckRow(check, "", Estimate(0.03, 0.01))
    lucky = CheckRow(check, "", Estimate(0.024, 0.01))

    text = document(ErrorRates(1, 100, (), (row, lucky)))

    assert f"| {MISSED} {check.name} | 0.0300 | 0.0100 | 0.0050 |" in text
    assert f"| {check.name} | 0.0240 |" in text
    assert "1 of 2 rows" in text


def test_numbers_depend_on_the_seed_and_the_check_alone(rows: Mapping[str, CheckRow]) -> None:
    again = error_rates(chosen(["delay-0.05-1x1-2"]), replications=RUNS, seed=1).guardrails[0]
    other = error_rates(chosen(["delay-0.05-1x1-2"]), replications=RUNS, seed=2).guardrails[0]

    assert again.number == rows["delay-0.05-1x1-2"].number
    assert other.number != again.number


def test_a_median_without_an_end_in_half_of_the_runs_is_not_there() -> None:
    check = checks()["delay-0.05-1x1-2"]
    never = np.where(np.arange(100) < 60, np.inf, 5.0)

    assert check.rows({"": never})[0].number == Estimate(None, None)
    assert check.rows({"": np.full(100, check.target or 0.0)})[0].number == Estimate(1.0, 0.0)


def test_runs_that_suspended_before_the_change_are_left_out() -> None:
    check = checks()["change-0.05-2"]
    ours, plainly = np.array([np.nan, 10.0, 20.0, 30.0]), np.array([50.0, 60.0, 70.0, np.nan])

    row = check.rows({"": ours, "plain": plainly})[0]

    assert (row.median_users, row.against) == (20.0, 60.0)
    assert row.number.value == pytest.approx(1 / 3)


# The fast runs are those of the engine.


@given(n=st.integers(0, 3_000), share=st.floats(0, 1), limit=st.sampled_from([0.01, 0.05, 0.4]))
def test_the_bound_of_an_e_value_is_one(n: int, share: float, limit: float) -> None:
    s = n * min(1.0, 4.0 * limit * share)
    sums = np.array([float(n), s])

    log_e = float(log_e_above_limit(sums[:1], sums[1:], limit)[0])

    assert log_e <= float(most_of_rate(limit)(sums)) + 1e-9


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=7))
def test_the_bound_of_bets_is_one(wealth: list[float]) -> None:
    assert float(log_e_of_bets(np.array(wealth))) <= float(most_of_bets(np.array(wealth))) + 1e-12


def history_at(rows: FloatArray, assigned: IntArray, width: int) -> History:
    """Both arms with these users; the guardrail's sums are those of arm 1, and nobody has a goal value."""
    n_epochs = len(assigned)
    users = np.stack([assigned, assigned], axis=-1)
    sums = np.zeros((n_epochs, 2, width))
    sums[:, 1, : rows.shape[1]] = rows
    goal = np.zeros((n_epochs, 2, 4))
    ledger = Ledger(users, np.zeros_like(users), (goal, sums), (0.0, 0.0))
    return History(ledger, 0, np.full((n_epochs, 2), 0.5))


def test_an_arm_is_suspended_at_the_very_event_at_which_the_engine_suspends_it() -> None:
    limit, users = 0.05, 1_500
    experiment = guarded([{"metric": "harm", "kind": "binary", "max": limit, "per_user": "any"}])
    places = event_users(np.random.default_rng(1), 0.09, users, 6)
    ends = np.cumsum(arm_epochs(experiment, users))

    for run, until in zip(places, until_breach(experiment, places, users), strict=True):
        first = math.inf
        for seen, place in enumerate(run[run <= users], start=1):
            upto = int(np.searchsorted(ends, place)) + 1
            assigned = np.diff(np.minimum(ends[:upto], place), prepend=0)
            harms = np.diff(np.searchsorted(run[:seen], ends[:upto], side="right"), prepend=0)
            sums = np.stack([harms, harms, harms, harms], axis=-1)
            history = history_at(sums, assigned, 4)
            if breached(experiment, history, breaches(experiment, history)):
                first = float(place)
                break
        assert until == first
    assert len(arm_starts(experiment, users)) == 3


def last_log_e(looks: ArmLooks, run: int) -> list[FloatArray]:
    return [looks.since(start)[run, -1] for start in range(len(looks.begins))]


def test_bets_on_a_mean_are_those_of_the_ledger() -> None:
    users = 1_200
    experiment = guarded([{"metric": "cost", "kind": "numeric", "max": 1.0}])
    measure = measures_of(experiment)[guardrail_measure(experiment, experiment.guardrails[0])]
    outcomes = np.random.default_rng(1).lognormal(0.0, 0.6, (2, users))
    looks = looks_at_bets(measure, outcomes, arm_starts(experiment, users))
    assigned = arm_epochs(experiment, users)
    transforms = np.array([measure.transforms(float(y), 0.0) for y in outcomes[1]])
    rows = np.add.reduceat(transforms, np.cumsum(assigned) - assigned)

    found = breaches(experiment, history_at(rows, assigned, measure.width))

    since = np.array(last_log_e(looks, 1))
    mixed = log_e_restarted(log_e_of_bets, since, np.array(len(since)))
    assert float(mixed) == pytest.approx(float(found.log_e[0, 1]), abs=1e-9)
    assert len(since) == 3
    assert looks.looks[1].sum() == (outcomes[1] > 1.0).sum()


def test_a_share_of_calls_changes_with_every_call() -> None:
    users, calls = 700, 3
    experiment = guarded([{"metric": "latency", "kind": "numeric", "quantile": 0.95, "max": 1.0}])
    changes, user, call = shares_of_calls(np.random.default_rng(1), 0.1, calls, 0.2, users, 2, apart=50.0)
    starts_at = arm_starts(experiment, users)
    looks = looks_at_calls(changes, user, call, starts_at)

    assert (np.diff(user[call == 0]) == 1).all()  # users come in order
    assert sorted(zip(user.tolist(), call.tolist(), strict=True)) == [
        (u, c) for u in range(users) for c in range(calls)
    ]
    for place in (0, 10, 900, users * calls - 1):
        for start, at in enumerate(starts_at):
            seen = {u for u in user[: place + 1].tolist() if u >= at}
            s = sum(change for change, u in zip(changes[1, : place + 1], user, strict=False) if u >= at)
            assert looks.since(start)[1, place].tolist() == pytest.approx([len(seen), s])
    share = changes.sum(axis=1) / users
    assert np.abs(share - 0.1).max() < Z * math.sqrt(0.1 * 0.9 * (1 + 2 * 0.2) / 3 / users)


def test_returning_users_are_as_alike_as_declared() -> None:
    first, second = returning_events(np.random.default_rng(1), 0.1, 0.5, 2, 4_000, 10)

    def happened(places: IntArray) -> FloatArray:
        found = np.zeros((10, 4_002))
        np.put_along_axis(found, places, 1.0, axis=1)
        return found[:, 1:4_001]

    a, b = happened(first), happened(second)
    assert a.mean() == pytest.approx(0.1, abs=Z * 0.3 / 200)
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] == pytest.approx(0.5, abs=0.03)


def test_the_rate_changes_when_it_is_said_to() -> None:
    places = worse_later(np.random.default_rng(1), 0.02, 0.3, 1_000, 2_000, 200)

    early, late = (places <= 1_000).sum(), ((places > 1_000) & (places <= 2_000)).sum()

    assert abs(early / 200_000 - 0.02) < Z * math.sqrt(0.02 * 0.98 / 200_000)
    assert abs(late / 200_000 - 0.3) < Z * math.sqrt(0.3 * 0.7 / 200_000)
    assert (np.diff(places, axis=1)[places[:, 1:] <= 2_000] > 0).all()


def test_users_after_a_start_are_those_that_count_for_it() -> None:
    places = np.array([[3, 600, 601, 1_300, 1_900, 2_001]])
    looks = looks_at_events(places, 2_000, np.array([0, 600, 1_300]))

    assert looks.begins.tolist() == [[0], [2], [4]]
    assert looks.since(0)[0].tolist() == [[3, 1], [600, 2], [601, 3], [1_300, 4], [1_900, 5], [2_001, 6]]
    assert looks.since(1)[0, 2:].tolist() == [[1, 1], [700, 2], [1_300, 3], [1_401, 4]]
    assert looks.looks.tolist() == [[True, True, True, True, True, False]]
    assert plain(looks).begins.tolist() == [[0]]


def test_a_start_counts_from_its_first_look_on_and_not_before() -> None:
    wealth = [np.zeros((1, 4, 1)), np.array([50.0, 0.0, 10.0, 0.0]).reshape(1, 4, 1)]
    every = np.ones((1, 4), dtype=bool)

    def first(begins: int, looks: BoolArray, threshold: float = 5.0) -> int:
        found = ArmLooks(lambda start: wealth[start], np.array([[0], [begins]]), looks)
        return int(found.first(log_e_of_bets, most_of_bets, threshold)[0])

    assert first(1, every) == 2
    assert first(2, every) == 2
    assert first(3, every) == 4  # never
    assert first(1, np.array([[True, True, False, True]])) == 4
    exact = 10.0 - math.log(6.0)
    assert first(2, every, exact) == 2
    assert first(2, every, exact + 1e-3) == 4


def test_steered_runs_are_what_the_engine_says_of_them() -> None:
    rail = {"metric": "harm", "kind": "binary", "max_increase": 0.2}
    experiment = guarded([rail], kind="thompson", floor=0.05, control_floor=0.05)
    limit = limit_of(experiment.guardrails[0])
    harms = moving_rates(lambda moment: [0.1 + 0.1 * moment, 0.2 + 0.1 * moment])
    runs = steered_runs(
        experiment, rates(0.0, 0.0), Relative(limit, harms, (0.0, 1.0), False), 2_000, 4, np.random.SeedSequence(1)
    )
    looks = runs.looks(1)
    assert (runs.p[:, -1, 1] < runs.p[:, 1, 1]).all()  # the arm is beyond its limit

    for run in range(4):
        users = runs.assigned[run]
        successes = np.zeros((len(users), 2, 4))
        successes[..., 0] = users  # nobody succeeds, and everybody says so
        ledger = Ledger(users, np.zeros_like(users), (successes, runs.sums[run]), (0.0, 0.0))
        history = History(ledger, len(users), runs.p[run])
        found = breaches(experiment, history)
        n_starts = int((looks.begins[:, run] < len(users)).sum())
        since = np.array(last_log_e(looks, run)[:n_starts])
        mixed = log_e_restarted(log_e_of_bets, since, np.array(n_starts))
        assert float(mixed) == pytest.approx(float(found.log_e[0, 1]), abs=1e-8)

        early = breaches(experiment, history.upto(20)).feasible
        before = users[:20].sum(axis=0).astype(np.float64)
        nothing = np.zeros(2)
        learned = Totals(before, before, nothing, nothing, 0.0)
        assert early[1] < 1.0
        assert runs.p[run, 20].tolist() == pytest.approx(allocate(experiment, learned, before, early).tolist())


def test_an_unbounded_ratio_is_certified_as_the_engine_does() -> None:
    experiment = asked(users=3_000)
    record = record_runs(experiment, rates(0.5, 0.5), 3_000, 2, np.random.SeedSequence(1))
    rng = np.random.default_rng(1)
    cost = Skewed(0.5, (1.0, 1.0))
    sums = np.stack([cost.draw(rng, record.assigned[:, e], 0.5) for e in range(len(record.ends))], axis=1)
    rail = {"metric": "cost", "kind": "numeric", "max_increase": 0.2}
    guard = asked_with(rail, users=3_000)

    running = log_e_within_ratio(experiment, observed_sums(record.p, sums, None), 1.2)

    for run in range(2):
        users = record.assigned[run]
        ledger = Ledger(users, np.zeros_like(users), (record.sums[run], sums[run]), (0.0, 0.0))
        history = History(ledger, len(users), record.p[run])
        observed = observe(guard, history, 1)
        (declared,) = guard.guardrails
        found = guardrail_evidence(guard, history, declared, observed, total_scores(observed, 0))
        assert found is not None
        assert found.log_ok[1] == pytest.approx(running[run, -1, 1])
        assert found.log_ok[1] > 3.0


def asked_with(rail: Mapping[str, object], users: int) -> Experiment:
    return parse({**asked(users=users).to_dict(), "guardrails": [dict(rail)]})


@pytest.mark.parametrize(("mean", "sigma", "cap"), [(0.8, 1.0, 5.0), (0.96, 1.0, 5.0), (1.0, 2.0, 20.0)])
def test_a_cut_law_has_the_mean_that_was_asked_for(mean: float, sigma: float, cap: float) -> None:
    before = mean_before_cut(mean, sigma, cap)
    drawn = np.minimum(Skewed(sigma, (before,)).laws[0].draw(np.random.default_rng(1), 400_000), cap)

    assert before > mean
    assert abs(drawn.mean() - mean) < Z * drawn.std() / math.sqrt(len(drawn))


def test_generations_follow_each_other_and_are_read_up_to_what_was_closed() -> None:
    experiment = asked(users=6_000, kind="fixed", min_batch=150)
    operator = Operator()
    runs = interrupted_runs(experiment, operator, 6_000, 40, np.random.default_rng(1))

    assert sum(len(run.generations) > 1 for run in runs) > 20
    for run in runs:
        assert (run.seen <= run.whole).all()
        given = run.assigned[:, 1] > 0
        covered = np.zeros(len(given), dtype=bool)
        for number, one in enumerate(run.generations):
            last = len(given) if one.last_epoch is None else one.last_epoch
            assert one.number == number
            assert not covered[one.first_epoch - 1 : last].any()
            covered[one.first_epoch - 1 : last] = True
            if one.closed_epochs is not None and one.closed_epochs >= one.first_epoch:
                read = slice(one.first_epoch - 1, one.closed_epochs)
                assert one.closed_epochs == last - operator.wait
                assert (run.seen[read, 1] == run.whole[read, 1]).all()
        assert (covered == given).all()


def test_equal_arms_stay_equal_in_the_engine_itself_whatever_an_operator_does() -> None:
    """Of 15 experiments no more than luck allows at alpha = 0.05 say at some look that one of the arms is better."""
    found = [_interrupted_by_hand(seed) for seed in range(15)]

    assert sum(wrong for wrong, _ in found) <= stats.binom.isf(RARELY, 15, 0.05)
    assert sum(times for _, times in found) >= 15  # operators did something


def _interrupted_by_hand(seed: int) -> tuple[bool, int]:
    """One experiment: failures at once, successes within the window; taken away when behind, let in again later."""
    rng = np.random.default_rng(seed)
    clock = Clock(0.0)
    wait, users = 100, 900
    experiment = asked(users=users, kind="fixed", min_batch=30)
    bandit = Bandit(_with_window(experiment, wait), clock)
    due: list[list[str]] = [[] for _ in range(users + wait + 2)]
    wrong, times, back = False, 0, users + 1
    for user in range(users):
        clock.now = float(user)
        for name in due[user]:
            bandit.reward(name, 1.0)
        name = f"user-{seed}-{user}"
        bandit.choose(name)
        if rng.random() < 0.5:
            bandit.reward(name, 0.0)
        else:
            due[user + 1 + int(rng.integers(wait - 1))].append(name)
        if user == back:
            bandit.resume("v1")
        elif user % 20 == 19 and (times == 0 or user > back + 60):
            first = bandit.timeline.latest[1].first_epoch - 1
            assigned = bandit.ledger.assigned[first:].sum(axis=0)
            known = bandit.ledger.sums[0][first:, :, 1].sum(axis=0)
            if assigned.min() >= 30 and known[1] / assigned[1] < known[0] / assigned[0] - 0.05:
                bandit.suspend("v1")
                times, back = times + 1, user + 60
        if user % 90 == 89:
            wrong |= _tells_apart(bandit)
    return wrong, times


def _tells_apart(bandit: Bandit) -> bool:
    share = bandit.timeline.latest[1].share(bandit.experiment)
    shown = bandit.report().comparisons[0]
    better = (
        shown.e_process is not None and shown.e_process.higher is not None and shown.e_process.higher >= 2.0 / share
    )
    interval = None if shown.any_time is None else shown.any_time.interval
    return better or (interval is not None and not interval[0] <= 0.0 <= interval[1])


def _with_window(experiment: Experiment, seconds: int) -> Experiment:
    return parse({**experiment.to_dict(), "rewards": {"window": f"{seconds}s"}})


def test_a_level_just_beyond_is_found_later_than_one_far_beyond() -> None:
    experiment = guarded([{"metric": "harm", "kind": "binary", "max": 0.05}])
    rng = np.random.default_rng(1)

    near, far = (
        float(np.median(until_breach(experiment, event_users(rng, rate, 3_000, 60), 3_000))) for rate in (0.1, 0.2)
    )

    assert far < near < math.inf
    assert breach_level(experiment) == pytest.approx(0.005)


def test_checks_have_names_of_their_own_and_bounds_that_can_be_kept() -> None:
    every = checks()

    assert len(every) == len({check.name for check in every.values()})
    assert all(isinstance(check, Check) and check.bound > 0.0 for check in every.values())
    assert sum(check.quick for check in every.values()) >= 8
