"""What the writer does with operations that share a transaction."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bandit import Assignment, Experiment, parse_json
from bandit.measures import measures_of
from bandit.outcomes import outcome_value
from server.live import Reward
from server.operations import Choose, Count, Create, Move, Operation, Seed
from server.schema import TERMS
from server.store import Store
from server.writer import Writer
from tests.server.running import Clock, Service, declaration, in_process, rows


async def in_one_batch(path: Path, operations: list[Operation], afterwards: list[Operation]) -> list[Any]:
    """Run operations in one transaction of a new writer and others in one each; return all answers."""
    writer = Writer(Store(path), Clock(), monotonic=lambda: 0.0)
    tasks = [asyncio.ensure_future(writer.ask(operation, 10)) for operation in operations]
    await asyncio.sleep(0)  # all of them wait before anybody takes them
    writer.start()
    answers = await asyncio.gather(*tasks)
    answers += [await writer.ask(operation, 10) for operation in afterwards]
    for operation in (*operations, *afterwards):
        if isinstance(operation, Choose):
            tail = writer.views[operation.key].known(operation.user_id)
            answers.append(None if tail is None else json.loads(b"{" + b"".join(tail))["reason"])
    await asyncio.to_thread(writer.close)
    return answers


def experiment_of(definition: dict[str, Any]) -> Experiment:
    return parse_json(json.dumps(definition))


def stored(path: Path, **changes: Any) -> None:  # noqa: ANN401 - whatever JSON says
    """Make a store with the experiment "x" as a draft."""
    asyncio.run(in_one_batch(path, [Create(experiment_of(declaration(salt="s", **changes)))], []))


def reasons(answers: list[Any]) -> list[str]:
    return [answer.reason for answer in answers if isinstance(answer, Assignment)]


def test_who_came_just_before_the_start_is_not_left_out_for_good(path: Path) -> None:
    stored(path)

    answers = asyncio.run(in_one_batch(path, [Choose("x", "u"), Move("x", "start")], []))

    assert reasons(answers) == ["not_enrolled"]
    assert answers[-1] is None  # so that the next call is not answered from memory
    with in_process(path) as service:
        assert service.choose("x", "u")["reason"] == "new"


def test_who_is_outside_the_exposure_is_remembered(path: Path) -> None:
    stored(path, rollout={"exposure": 0.0})

    answers = asyncio.run(in_one_batch(path, [Move("x", "start"), Choose("x", "u")], []))

    assert answers[-1] == "not_enrolled"


def test_an_experiment_of_a_file_is_created_and_started_at_once_or_not_at_all(path: Path) -> None:
    experiment = experiment_of(declaration())
    writer = Writer(Store(path), Clock(), monotonic=lambda: 0.0)
    statements: list[str] = []
    writer.store.db.set_trace_callback(statements.append)

    async def seed() -> object:
        writer.start()
        answer = await writer.ask(Seed(experiment.with_salt("s"), experiment), 10)
        await asyncio.to_thread(writer.close)
        return answer

    assert asyncio.run(seed()) == "experiment 'x' created and started"
    assert statements.count("COMMIT") == 1
    assert rows(path, "SELECT state FROM experiments") == [("running",)]


def test_pauses_and_starts_under_load_leave_nobody_out(service: Service) -> None:
    service.create()
    over = threading.Event()

    def come(number: int) -> list[str]:
        users: list[str] = []
        while not over.is_set():
            users.append(f"u{number}-{len(users)}")
            service.choose("x", users[-1])
        return users

    with ThreadPoolExecutor(8) as pool:
        visits = [pool.submit(come, number) for number in range(8)]
        for _ in range(25):
            service.move("x", "pause")
            service.move("x", "start")
        over.set()
    users = [user for visit in visits for user in visit.result()]

    assert {service.choose("x", user)["reason"] for user in users} <= {"new", "sticky"}


@pytest.mark.parametrize("together", [True, False])
def test_after_a_stop_an_answered_user_is_done_and_an_open_one_keeps_the_variant(path: Path, together: bool) -> None:
    stored(path, rewards={"window": "request"})
    told = Count("x", Reward("done", "r", {"resolved": 1}))
    asyncio.run(in_one_batch(path, [Move("x", "start"), Choose("x", "done"), Choose("x", "open"), told], []))

    stop = Move("x", "stop", "B")
    after: list[Operation] = [Choose("x", "done"), Choose("x", "open")]
    answers = asyncio.run(in_one_batch(path, [stop, *after] if together else [stop], [] if together else after))

    assert reasons(answers) == ["stopped", "sticky"]


def test_the_sums_of_closed_cells_are_those_of_their_outcomes_in_any_order(path: Path) -> None:
    goal = {"metric": "score", "kind": "numeric"}
    stored(path, goal=goal, policy={"min_batch": 5, "warmup": 5}, rewards={"window": "1h"})
    clock = Clock()
    asyncio.run(correct(path, clock))

    assert rows(path, "SELECT count(*) > 2 FROM epochs WHERE closed_at IS NOT NULL") == [(1,)]
    assert check_closed_sums(path) > 10
    assert rows(path, "SELECT count(*) FROM rewards WHERE revision > 0 AND value = 5") == [(40,)]


def test_an_epoch_that_closes_in_a_batch_counts_what_the_batch_reports(path: Path) -> None:
    stored(path, policy={"min_batch": 6, "warmup": 6}, rewards={"window": "request"})
    users = [f"u{i}" for i in range(6)]
    come: list[Operation] = [Choose("x", user) for user in users]
    costs: list[Operation] = [Count("x", Reward(user, f"c-{user}", {"cost_usd": 0.1})) for user in users[:4]]
    asyncio.run(in_one_batch(path, [Move("x", "start"), *come, *costs], []))

    # The next user ends the epoch, the last goal closes it; costs are in the store, goals only at hand.
    goals: list[Operation] = [Count("x", Reward(user, f"g-{user}", {"resolved": 1})) for user in users]
    asyncio.run(in_one_batch(path, [Choose("x", "next"), *goals], []))

    assert rows(path, "SELECT epoch FROM epochs WHERE closed_at IS NOT NULL") == [(1,)]
    assert check_closed_sums(path) == rows(path, "SELECT count(*) FROM sums WHERE epoch = 1")[0][0]
    assert rows(path, "SELECT sum(n) FROM sums WHERE epoch = 1 AND measure = 0") == [(6.0,)]


async def correct(path: Path, clock: Clock) -> None:
    """Report huge values, correct most of them, and let the windows end, in batches of several operations."""
    writer = Writer(Store(path), clock, monotonic=lambda: 0.0)
    writer.start()
    await writer.ask(Move("x", "start"), 10)
    for first in range(0, 60, 10):
        users = [f"u{i}" for i in range(first, first + 10)]
        values = {user: 1.7e12 if i % 3 else i / 7 for i, user in enumerate(users, first)}
        metrics = {user: {"score": value, "cost_usd": i * 0.013} for i, (user, value) in enumerate(values.items())}
        batch: list[Operation] = [Choose("x", user) for user in users]
        batch += [Count("x", Reward(user, f"r-{user}", metrics[user])) for user in users]
        wrong = [user for user in users if values[user] > 1e12]
        batch += [Count("x", Reward(user, f"r-{user}", {"score": 5}, replace=True)) for user in wrong]
        await asyncio.gather(*(writer.ask(operation, 10) for operation in batch))
    clock.now += 3000
    # The windows end while users come and are rewarded: the first of these closes what has ended.
    late: list[Operation] = [Choose("x", "late"), Count("x", Reward("late", "r-late", {"score": 0.1}))]
    await asyncio.gather(*(writer.ask(operation, 10) for operation in late))
    clock.now += 3601
    again: list[Operation] = [Choose("x", f"v{i}") for i in range(6)]
    again += [Count("x", Reward(f"v{i}", f"r-v{i}", {"score": i / 3})) for i in range(6)]
    await asyncio.gather(*(writer.ask(operation, 10) for operation in again))
    await asyncio.to_thread(writer.close)


def check_closed_sums(path: Path) -> int:
    """Compare the sums of closed cells with `math.fsum` over their users' stored outcomes, bit for bit."""
    number, definition, origins = rows(path, "SELECT id, definition, origins FROM experiments")[0]
    measures = measures_of(parse_json(definition))
    terms: dict[tuple[int, int, int], list[list[float]]] = {}
    for epoch, arm, index, calls, total, first in rows(
        path,
        "SELECT epoch, arm, measure, calls, total, first FROM assignments JOIN outcomes USING (experiment, user_id)"
        " JOIN epochs USING (experiment, epoch) WHERE experiment = ? AND closed_at IS NOT NULL",
        number,
    ):
        measure = measures[index]
        y = outcome_value(measure, total if calls == 1 else (calls, total, first))
        row = measure.transforms(y, json.loads(origins)[index] or 0.0)
        terms.setdefault((epoch, arm, index), []).append(list(row))
    exact = {place: [math.fsum(column) for column in zip(*rows_, strict=True)] for place, rows_ in terms.items()}
    found = {
        (epoch, arm, measure): [term for term in terms if term is not None]
        for epoch, arm, measure, *terms in rows(
            path,
            f"SELECT epoch, arm, measure, {', '.join(TERMS)} FROM sums JOIN epochs USING (experiment, epoch)"  # noqa: S608
            " WHERE closed_at IS NOT NULL",
        )
    }
    assert found == exact
    return len(found)


def test_a_large_config_is_kept_once_however_many_epochs_there_are(service: Service) -> None:
    variants = [{"key": "A", "control": True, "config": {"prompt": "x" * 20_000}}, {"key": "B", "config": {"n": 1}}]
    service.create(variants=variants, policy={"min_batch": 1, "warmup": 1}, rewards={"window": "request"})
    answers = [service.choose("x", f"u{i}") for i in range(30)]
    view = service.writer.views["x"]

    tails = [tail for i in range(30) if (tail := view.known(f"u{i}")) is not None]

    assert len({answer["epoch"] for answer in answers}) > 10
    assert len({id(head) for head, _ in tails}) == 2
    assert max(len(cell) for _, cell in tails) < 100
    assert list(answers[0]) == [
        "request_id", "user_id", "experiment", "variant", "config", "version", "config_hash", "propensity", "epoch",
        "reason",
    ]  # fmt: skip
    again = service.choose("x", "u0")
    assert again == {**answers[0], "request_id": again["request_id"], "reason": "sticky"}
