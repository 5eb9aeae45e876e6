"""Whatever is asked in whatever order, of one or the other of two writers: the store holds what the engine says."""

from __future__ import annotations

import asyncio
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import server.writer
from bandit import Bandit, BanditError, Experiment, parse_json
from bandit.saved import SavedState
from server.live import Reward
from server.operations import API, Choose, Count, Create, Expose, Force, Move, Operation, Switch, Tick
from server.store import Store
from server.writer import Writer
from tests.server.running import Clock, check_ledger, declaration

USERS = st.sampled_from([f"u{i}" for i in range(12)])
VALUES = st.fixed_dictionaries(
    {}, optional={"resolved": st.booleans(), "cost_usd": st.sampled_from([0.0, 0.1, 0.3, 1.7, 3.0])}
)
REWARDS = st.builds(
    Reward,
    user_id=USERS,
    request_id=st.sampled_from([f"r{i}" for i in range(15)]),
    metrics=VALUES,
    variant=st.sampled_from([None, None, None, "A", "B"]),
    failed=st.sampled_from([None, None, None, True, False]),
    replace=st.booleans(),
)
OPERATIONS = st.one_of(
    st.builds(Choose, st.just("x"), USERS),
    st.builds(Choose, st.just("x"), USERS),
    st.builds(Count, st.just("x"), REWARDS),
    st.builds(Count, st.just("x"), REWARDS),
    st.builds(Move, st.just("x"), st.sampled_from(["start", "start", "start", "pause"])),
    st.builds(Switch, st.just("x"), st.sampled_from(["B", "B", "C", "A"]), st.booleans(), st.just("by hand")),
    st.builds(Force, st.just("x"), USERS, st.sampled_from([None, None, "A", "B"])),
    st.builds(Expose, st.just("x"), st.sampled_from([None, None, 0.5, 1, 1.0])),
    st.just(Tick("x")),
)
STOPS = st.builds(Move, st.just("x"), st.just("stop"), st.sampled_from([None, "B"]), st.booleans())
STEPS = st.lists(
    st.tuples(OPERATIONS, st.booleans(), st.sampled_from([0.0, 0.0, 1.0, 70.0, 2_000.0])), min_size=30, max_size=60
)


def told_by(twin: Bandit, operation: Operation) -> object:
    """What the engine alone answers."""
    match operation:
        case Choose(_, user):
            return twin.choose(user)
        case Count(_, reward):
            return twin.reward(**msgspec.structs.asdict(reward))
        case Move(_, "start"):
            twin.start(actor=API)
        case Move(_, "pause"):
            twin.pause(actor=API)
        case Move(_, _, serve, now):
            twin.stop(serve, now=now, actor=API)
        case Tick():
            twin.tick()
        case _:
            _constrain(twin, operation)
    return None


def _constrain(twin: Bandit, operation: Operation) -> None:
    match operation:
        case Switch(_, variant, True, reason):
            twin.resume(variant, reason=reason, actor=API)
        case Switch(_, variant, False, reason):
            twin.suspend(variant, reason=reason, actor=API)
        case Force(_, user, None):
            twin.release(user, actor=API)
        case Force(_, user, str(variant)):
            twin.force(user, variant, actor=API)
        case Expose(_, exposure):
            twin.set_exposure(exposure, actor=API)


def in_order(saved: SavedState) -> SavedState:
    """A state without its latest time, and with entries that have keys in the order of these."""
    epochs = [
        replace(
            epoch,
            cells=[
                replace(cell, returning=sorted(cell.returning), waiting=sorted(cell.waiting)) for cell in epoch.cells
            ],
        )
        for epoch in saved.epochs
    ]
    return replace(saved, now=None, epochs=epochs, states=sorted(saved.states), values=sorted(saved.values))


async def compare(experiment: Experiment, path: Path, steps: list[tuple[Operation, bool, float]]) -> None:
    clock = Clock()
    writers = [Writer(Store(path), clock, monotonic=lambda: 0.0) for _ in range(2)]
    twin = Bandit(experiment, clock, running=False)
    for writer in writers:
        writer.start()
    await writers[0].ask(Create(experiment), 10)
    for operation, second, passes in [(Move("x", "start"), False, 0.0), *steps]:
        clock.now += passes
        try:
            expected: object = told_by(twin, operation)
        except BanditError as error:
            expected = (type(error), str(error))
        try:
            actual = await writers[second].ask(operation, 10)
        except BanditError as error:
            actual = (type(error), str(error))
        if expected is not None:
            assert actual == expected
        stored = writers[0].store.load("x")
        assert stored is not None
        # The latest time is stored with the next change; all else is as the engine has it, to the last bit.
        assert in_order(stored.saved) == in_order(twin.saved_state)
    assert json.dumps(twin.report().to_dict(), allow_nan=False)  # it can be sent whatever happened
    for writer in writers:
        await asyncio.to_thread(writer.close)


@pytest.mark.parametrize("window", ["request", "1h"])
@settings(max_examples=20)
@given(steps=STEPS, stop=STOPS, after=STEPS)
def test_the_store_is_the_engine(
    window: str,
    steps: list[tuple[Operation, bool, float]],
    stop: Move,
    after: list[tuple[Operation, bool, float]],
) -> None:
    experiment = parse_json(
        json.dumps(
            declaration(
                salt="s",
                rewards={"window": window},
                policy={"min_batch": 3, "warmup": 2, "max_epoch": "30m"},
                variants=[{"key": "A", "control": True}, {"key": "B"}, {"key": "C"}],
                rollout={"exposure": 1.0, "ramp": [0.3, 0.6, 1.0], "ramp_users": 2, "ramp_after": "20m"},
            )
        )
    )
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(server.writer, "WAKE", 1e9)  # time passes in the steps alone
        path = Path(folder) / "b.db"
        asyncio.run(compare(experiment, path, [*steps, (stop, True, 5.0), *after]))
        check_ledger(path, "x")
