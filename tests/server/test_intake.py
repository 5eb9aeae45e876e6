"""Operations wait for the writer together, and go to it when it is free."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

import server.intake
from server.errors import StoreUnavailable, UnknownExperiment
from server.intake import LINGER, Batch, Intake
from server.operations import Choose


class Desk:
    """A writer that answers when it is told to."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.intake = Intake(self.batches.append)

    @property
    def sizes(self) -> list[int]:
        return [len(batch.tickets) for batch in self.batches]

    def come(self, *users: str, patience: float = 5.0) -> list[asyncio.Task[object]]:
        return [asyncio.ensure_future(self.intake.ask(Choose("x", user), patience)) for user in users]

    def answer(self) -> None:
        """Answer everybody of the latest batch."""
        for ticket in self.batches[-1].tickets:
            assert ticket.future is not None
            if not ticket.future.done():
                ticket.future.set_result(ticket.operation.user_id)
        self.batches[-1].served()


async def turns(n: int = 3) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


def run(scenario: Callable[[Desk], Awaitable[None]]) -> Desk:
    desk = Desk()

    async def main() -> None:
        await scenario(desk)

    asyncio.run(main())
    return desk


def test_who_comes_in_one_turn_of_the_loop_goes_together_and_at_once() -> None:
    async def scenario(desk: Desk) -> None:
        tasks = desk.come("a", "b", "c")
        await turns()
        assert desk.sizes == [3]
        assert [ticket.operation.user_id for ticket in desk.batches[0].tickets] == ["a", "b", "c"]
        desk.answer()
        assert await asyncio.gather(*tasks) == ["a", "b", "c"]
        assert desk.intake.waiting == 0

    run(scenario)


def test_who_comes_while_the_writer_works_goes_with_those_who_come_again() -> None:
    async def scenario(desk: Desk) -> None:
        tasks = desk.come("a", "b")
        await turns()
        tasks += desk.come("c")
        await turns()
        assert desk.sizes == [2]
        desk.answer()
        tasks += desk.come("a")
        await turns()
        assert desk.sizes == [2]  # b has not come again yet
        tasks += desk.come("b")
        await turns()
        assert desk.sizes == [2, 3]
        desk.answer()
        assert await asyncio.gather(*tasks) == ["a", "b", "c", "a", "b"]

    run(scenario)


def test_the_writer_does_not_wait_long_for_who_does_not_come_again() -> None:
    async def scenario(desk: Desk) -> None:
        loop = asyncio.get_running_loop()
        tasks = desk.come(*"abcdefgh")
        await turns()
        desk.answer()
        start = loop.time()
        tasks += desk.come("i")
        while len(desk.batches) == 1:
            await asyncio.sleep(0)
        assert LINGER * 0.5 < loop.time() - start < LINGER * 3 + 0.05
        assert desk.sizes == [8, 1]
        desk.answer()
        tasks += desk.come("j")
        await turns()
        assert desk.sizes == [8, 1, 1]  # one alone is not waited for
        desk.answer()
        assert len(await asyncio.gather(*tasks)) == 10

    run(scenario)


def test_the_writer_waits_on_while_many_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.intake, "LINGER", 0.05)

    async def scenario(desk: Desk) -> None:
        tasks = desk.come(*"abcdefgh")
        await turns()
        desk.answer()
        tasks += desk.come(*"abcdef")
        await asyncio.sleep(0.075)
        assert desk.sizes == [8]
        tasks += desk.come(*"gh")
        await turns()
        assert desk.sizes == [8, 8]
        desk.answer()
        await asyncio.gather(*tasks)

    run(scenario)


def test_after_nobody_came_again_the_next_one_goes_at_once() -> None:
    async def scenario(desk: Desk) -> None:
        tasks = desk.come(*"abcdefgh")
        await turns()
        desk.answer()
        await asyncio.sleep(LINGER * 5)
        assert desk.sizes == [8]
        tasks += desk.come("i")
        await turns()
        assert desk.sizes == [8, 1]
        desk.answer()
        await asyncio.gather(*tasks)

    run(scenario)


def test_each_gives_up_after_its_own_patience() -> None:
    async def scenario(desk: Desk) -> None:
        loop = asyncio.get_running_loop()
        ended: dict[str, float] = {}

        async def wait(user: str, patience: float) -> None:
            with pytest.raises(StoreUnavailable, match="in time"):
                await desk.intake.ask(Choose("x", user), patience)
            ended[user] = loop.time()

        start = loop.time()
        first = [asyncio.ensure_future(wait("a", 0.1)), asyncio.ensure_future(wait("b", 0.3))]
        await asyncio.sleep(0.05)
        later = [asyncio.ensure_future(wait("c", 0.1))]
        await asyncio.gather(*first, *later)
        for user, expected in {"a": 0.1, "c": 0.15, "b": 0.3}.items():
            assert expected - 0.005 < ended[user] - start < expected + 0.1, user
        assert all(ticket.cancelled for batch in desk.batches for ticket in batch.tickets)
        assert desk.intake.waiting == 0

    run(scenario)


def test_answered_operations_do_not_keep_others_from_giving_up() -> None:
    async def scenario(desk: Desk) -> None:
        for user in "abc":
            (task,) = desk.come(user, patience=0.05)
            await turns()
            desk.answer()
            assert await task == user
        with pytest.raises(StoreUnavailable, match="in time"):
            await desk.intake.ask(Choose("x", "d"), 0.05)

    run(scenario)


def test_a_refusal_is_raised_and_is_an_item_of_many() -> None:
    async def scenario(desk: Desk) -> None:
        def refuse() -> None:
            for ticket in desk.batches[-1].tickets:
                assert ticket.future is not None
                ticket.future.set_result(UnknownExperiment("x"))
            desk.batches[-1].served()

        (task,) = desk.come("a")
        await turns()
        refuse()
        with pytest.raises(UnknownExperiment):
            await task
        many = asyncio.ensure_future(desk.intake.ask_all([Choose("x", "a"), Choose("x", "b")], 5.0))
        await turns()
        refuse()
        assert [type(one) for one in await many] == [UnknownExperiment, UnknownExperiment]

    run(scenario)


def test_an_event_loop_that_ended_amid_a_batch_leaves_the_next_one_free() -> None:
    desk = Desk()

    async def leave() -> None:
        desk.come("a")
        await turns()

    async def go_on() -> None:
        (task,) = desk.come("b")
        await turns()
        desk.answer()
        assert await task == "b"

    asyncio.run(leave())
    asyncio.run(go_on())
    assert desk.sizes == [1, 1]
    assert desk.intake.waiting == 0


def test_closing_hands_over_who_waits_and_takes_no_more() -> None:
    async def scenario(desk: Desk) -> None:
        tasks = desk.come("a")
        await turns()
        tasks += desk.come("b")
        await turns()
        desk.intake.close()
        assert desk.sizes == [1, 1]
        for late in desk.come("c"):
            with pytest.raises(StoreUnavailable):
                await late
        assert [type(one) for one in await desk.intake.ask_all([Choose("x", "d")], 1.0)] == [StoreUnavailable]
        for batch in desk.batches:
            for ticket in batch.tickets:
                assert ticket.future is not None
                ticket.future.set_result(None)
        await asyncio.gather(*tasks)

    run(scenario)
