"""The engine beside its peers, in process: `python -m tests.benchmarks.peers [--rounds 5]`.

Microseconds of CPU time per call at four arms. All rows are measured in turn, and again in every round, so that a slow
minute of the machine touches all of them; the least of a row's rounds counts. Peers that are not there are left out,
and named. They are best installed beside this project in an environment of their own:

    pip install -e . river mabwiser SMPyBandits obp==0.3.3 pybandits growthbook

(Later versions of obp need PyTorch, or a NumPy that is too old for this project.)

To choose is to decide on an arm, to reward is to learn one outcome. The bandits among the peers remember no users and
no requests and draw afresh at every call; GrowthBook remembers users, and learns nothing.
"""

from __future__ import annotations

import gc
import platform
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from typing import Annotated, Any

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from bandit import Bandit, parse

ARMS = ["A", "B", "C", "D"]
CALLS = 20_000
MANY = 100_000
"""Users over whom the renewals of the allocation are spread."""
LEARNED = 1_000
"""Outcomes that a peer has learned before it is measured."""

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Row:
    """What is measured.

    Attributes:
        what: For people.
        prepare: Returns the timed work, with a state of its own if the work changes it.
        calls: How many calls the work makes.
        wanted: Microseconds per call, at most; None: for information.
    """

    what: str
    prepare: Callable[[], Work]
    calls: int = CALLS
    wanted: float | None = None


def each(call: Callable[[Any], object], values: Iterable[object]) -> Work:
    """Return work that calls with one argument after the other."""

    def work() -> None:
        for value in values:
            call(value)

    return work


def each_pair(call: Callable[[Any, Any], object], pairs: Iterable[tuple[object, object]]) -> Work:
    """Return work that calls with one pair of arguments after the other."""

    def work() -> None:
        for one, other in pairs:
            call(one, other)

    return work


def repeated(call: Callable[[], object], times: int) -> Work:
    """Return work that calls without arguments."""

    def work() -> None:
        for _ in range(times):
            call()

    return work


# Ours


def users(n: int = CALLS) -> list[str]:
    """Return ids of users, as new strings each time: a call that comes in does not bring the string that is stored."""
    return [f"user-{i}" for i in range(n)]


def engine(*, renewals: bool = False, guardrail: bool = False) -> Bandit:
    """Return an experiment with four arms that has its first user; without renewals that epoch takes everybody."""
    latency = {"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "max": 1500}
    experiment = parse(
        {
            "key": "benchmark",
            "variants": [{"key": arm, "control": arm == "A"} for arm in ARMS],
            "goal": {"metric": "resolved", "kind": "binary"},
            "guardrails": [latency] if guardrail else [],
        }
    )
    bandit = Bandit(experiment, clock=lambda: 1.0)
    bandit.choose("first")
    if not renewals:
        bandit.timeline.left = 10**9
    return bandit


def with_users(*, guardrail: bool = False) -> Bandit:
    """Return an experiment whose users have their variants, and no outcome yet."""
    bandit = engine(guardrail=guardrail)
    each(bandit.choose, users())()
    return bandit


def reward_of_goal() -> Work:
    """Return the first value of each user, as a bare number."""
    return each_pair(with_users().reward, [(user, 1) for user in users()])


def reward_by_name() -> Work:
    """Return the first value of each user, by name and with the id of a request."""
    reward = with_users().reward
    requests = [(user, f"request-{i}") for i, user in enumerate(users())]

    def work() -> None:
        for user, request in requests:
            reward(user, {"resolved": 1}, request_id=request)

    return work


def reward_with_guardrail() -> Work:
    """Return the same with a second metric that has a limit, above which is one call in fifty."""
    reward = with_users(guardrail=True).reward
    requests = [(user, f"request-{i}", 800.0 if i % 50 else 1_600.0) for i, user in enumerate(users())]

    def work() -> None:
        for user, request, latency in requests:
            reward(user, {"resolved": 1, "latency_ms": latency}, request_id=request)

    return work


APART = Row("choose, new user, renewals apart, 100,000 users", lambda: each(engine().choose, users(MANY)), MANY)
RENEWED = Row(
    "choose, new user, left to itself, 100,000 users", lambda: each(engine(renewals=True).choose, users(MANY)), MANY
)
OURS = [
    Row("choose, known user", lambda: each(with_users().choose, users()), wanted=0.5),
    Row("choose, new user, renewals apart", lambda: each(engine().choose, users()), wanted=1.6),
    APART,
    RENEWED,
    Row("reward of the goal, no request id", reward_of_goal, wanted=0.8),
    Row("reward by name, request id", reward_by_name, wanted=2.0),
    Row("reward by name, request id, guardrail, two metrics", reward_with_guardrail),
]


# Peers


def outcomes(n: int) -> list[tuple[int, int]]:
    """Return (arm, whether it was a success) at random, the same each time."""
    rng = np.random.default_rng(0)
    return list(zip(rng.integers(len(ARMS), size=n).tolist(), rng.binomial(1, 0.3, n).tolist(), strict=True))


def thompson(
    name: str,
    choose: Callable[[], object],
    reward: Callable[[Any, Any], object],
    call: Callable[[int, int], tuple[object, object]],
    *,
    calls: tuple[int, int] = (CALLS, CALLS),
) -> list[Row]:
    """Return the rows of a peer that samples, after it has learned some outcomes.

    Args:
        name: The peer and what is called.
        choose: Decides on an arm.
        reward: Learns one outcome.
        call: Returns the arguments of `reward` for an arm and whether it was a success.
        calls: How many to choose and to reward.
    """
    each_pair(reward, [call(*outcome) for outcome in outcomes(LEARNED)])()
    n_choose, n_reward = calls
    rewards = [call(*outcome) for outcome in outcomes(n_reward)]
    return [
        Row(f"{name}, choose", lambda: repeated(choose, n_choose), n_choose),
        Row(f"{name}, reward", lambda: each_pair(reward, rewards), n_reward),
    ]


def river() -> list[Row]:
    """Return the rows of river."""
    beta = import_module("river.proba").Beta()
    policy = import_module("river.bandit").ThompsonSampling(reward_obj=beta, seed=0)
    return thompson(
        "river ThompsonSampling", partial(policy.pull, ARMS), policy.update, lambda arm, won: (ARMS[arm], won)
    )


def mabwiser() -> list[Row]:
    """Return the rows of MABWiser; it has to be fitted before it can learn on."""
    module = import_module("mabwiser.mab")
    policy = module.MAB(ARMS, module.LearningPolicy.ThompsonSampling(), seed=0)
    policy.fit(ARMS, [0, 1, 0, 1])
    return thompson(
        "mabwiser ThompsonSampling", policy.predict, policy.partial_fit, lambda arm, won: ([ARMS[arm]], [won]),
        calls=(CALLS, 2_000),
    )  # fmt: skip


def smpybandits() -> list[Row]:
    """Return the rows of SMPyBandits."""
    special: Any = import_module("scipy.special")
    if not hasattr(special, "btdtri"):  # SciPy gave the name up; it is imported, but not called to choose or to reward
        special.btdtri = special.betaincinv
    policy = import_module("SMPyBandits.Policies").Thompson(len(ARMS))
    policy.startGame()
    return thompson(
        "SMPyBandits Thompson", policy.choice, policy.getReward, lambda arm, won: (arm, won), calls=(10_000, CALLS)
    )


def obp() -> list[Row]:
    """Return the rows of the Open Bandit Pipeline."""
    policy = import_module("obp.policy").BernoulliTS(n_actions=len(ARMS), random_state=0)
    return thompson(
        "obp BernoulliTS", policy.select_action, policy.update_params, lambda arm, won: (arm, won),
        calls=(10_000, CALLS),
    )  # fmt: skip


def pybandits() -> list[Row]:
    """Return the rows of PyBandits."""
    policy = import_module("pybandits.smab").SmabBernoulli.cold_start(action_ids=set(ARMS))
    return thompson(
        "pybandits SmabBernoulli", policy.predict, policy.update, lambda arm, won: ([ARMS[arm]], [won]),
        calls=(3_000, 3_000),
    )  # fmt: skip


def growthbook() -> list[Row]:
    """Return the rows of GrowthBook: one object for all users, whose experiment has equal weights."""
    module = import_module("growthbook")
    experiment = module.Experiment(key="benchmark", variations=ARMS, meta=[{"key": arm} for arm in ARMS])
    fresh = module.GrowthBook()
    sticky = module.GrowthBook(
        sticky_bucket_service=module.InMemoryStickyBucketService(), sticky_bucket_identifier_attributes=["id"]
    )

    def run(book: Any, user: str) -> Any:  # noqa: ANN401 - objects of a package that may not be there
        book.set_attributes({"id": user})
        return book.run(experiment)

    calls = 5_000
    each(partial(run, sticky), users(calls))()
    if not run(sticky, users(1)[0]).stickyBucketUsed:
        raise RuntimeError("growthbook does not remember its users")
    return [
        Row("growthbook experiment, choose", lambda: each(partial(run, fresh), users(calls)), calls),
        Row("growthbook experiment, choose, sticky hit", lambda: each(partial(run, sticky), users(calls)), calls),
    ]


PEERS = {
    "river": river,
    "mabwiser": mabwiser,
    "SMPyBandits": smpybandits,
    "obp": obp,
    "pybandits": pybandits,
    "growthbook": growthbook,
}
"""By the name under which each is installed."""


def installed() -> tuple[list[Row], list[str], dict[str, ImportError]]:
    """Return the rows of the peers that can be imported, these peers with their versions, and why the others cannot."""
    rows: list[Row] = []
    there: list[str] = []
    missing: dict[str, ImportError] = {}
    for name, rows_of in PEERS.items():
        try:
            release = version(name)
            with redirect_stdout(StringIO()):  # advice about packages that could be installed as well
                rows += rows_of()
        except ImportError as error:
            missing[name] = error
        else:
            there.append(f"{name} {release}")
    return rows, there, missing


# Measuring


def microseconds(row: Row) -> float:
    """Return the CPU time per call of one chunk; what was there before is not for the garbage collector to look at."""
    work = row.prepare()
    gc.collect()
    gc.freeze()
    start = time.process_time()
    work()
    spent = time.process_time() - start
    gc.unfreeze()
    return spent / row.calls * 1e6


def table_of(measured: dict[Row, float]) -> Table:
    """Return what was measured beside what is wanted; what the renewals cost is the difference of two rows."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("what")
    for column in ("CPU µs", "wanted", "met"):
        table.add_column(column, justify="right")
    for row, spent in measured.items():
        wanted, met = "", ""
        if row.wanted is not None:
            wanted, met = f"≤ {row.wanted:g}", "yes" if spent <= row.wanted else "[red]no[/red]"
        table.add_row(row.what, f"{spent:.2f}", wanted, met, end_section=row is OURS[-1])
        if row is RENEWED:
            table.add_row("renewals, per new user", f"{spent - measured[APART]:.2f}", "", "")
    return table


def main(
    rounds: Annotated[int, typer.Option(min=1, max=99, help="how often each is measured; the least counts")] = 5,
) -> None:
    """Measure our calls and those of the peers that are installed."""
    console = Console(stderr=True)
    with console.status("") as status:
        status.update("importing the peers")
        peers, there, missing = installed()
        measured = dict.fromkeys([*OURS, *peers], np.inf)
        for number in range(1, rounds + 1):
            for row in measured:
                status.update(f"round {number} of {rounds}: {row.what}")
                measured[row] = min(measured[row], microseconds(row))
    out = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    out.print(table_of(measured))
    out.print(f"Python {platform.python_version()}, numpy {version('numpy')}, scipy {version('scipy')}")
    if there:
        out.print(", ".join(there))
    for name, error in missing.items():
        reason = "is not installed" if isinstance(error, PackageNotFoundError) else f"cannot be imported ({error})"
        out.print(f"{name} {reason}: left out", markup=False)


if __name__ == "__main__":
    typer.run(main)
