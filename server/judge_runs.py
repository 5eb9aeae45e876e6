"""Judges at work: they take interactions from the store, ask their models, and give the scores back as rewards.

Nothing here is in a transaction while a model thinks, and nothing here answers users: it runs in a process of its own,
beside the server or by command, and takes what the store's one lock leaves it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Self

from bandit import BanditError, Experiment
from bandit.experiment import Judge
from server.chat import ChatClient, ModelFault
from server.errors import StoreUnavailable
from server.judgements import LEASE, Claim, Claimed, Hold, PutBack, Settle, Task, Verdict
from server.judging import ANSWER_TOKENS, DEFAULT_RUBRIC, LONGEST_TEXT, Judged, Unscored, judge, judge_version, moderate
from server.live import Reward
from server.model_servers import ModelServers
from server.operations import Operation

PATIENCE = 10.0
"""Seconds that a step waits for the store."""

AHEAD = 4
"""Interactions that are claimed for each that is judged at a time."""

PAUSE = 30.0
"""Seconds after which an interaction is tried again whose judge could not answer."""

HOLD = LEASE / 3
"""Seconds after which what is still being judged is held for another lease."""

_FRAME = 4_000
"""Bytes around the judged texts, with the rubric if there is none of the judge's own."""

REST = 2.0
"""Seconds between looks for new interactions."""

log = logging.getLogger("bandit.server")

Ask = Callable[[Operation, float], Awaitable[object]]
"""Has an operation done by the writer within some seconds."""


class UnknownServer(BanditError):
    """A judge's model server is not in the settings."""


@dataclass(slots=True)
class Summary:
    """What a run did.

    Attributes:
        became: How many scores were counted, late or ignored, how many interactions unscored, or settled before.
        reasons: Why interactions have no scores.
        postponed: Interactions whose judge could not answer; they come again.
        prompt_tokens: Tokens that went in, as far as the servers said.
        completion_tokens: Tokens that came out, as far as the servers said.
        cost_usd: What it cost, as far as there are prices.
        without_price: Interactions of which nobody knows the cost.
        out_of_budget: Whether a day's budget ended it.
        fault: The latest fault of a model server that does not answer now, or "".
        why_unscored: Why the latest interaction without scores has none, or "".
    """

    became: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    postponed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    without_price: int = 0
    out_of_budget: bool = False
    fault: str = ""
    why_unscored: str = ""

    @property
    def judged(self) -> int:
        """Interactions that were settled, with scores or without."""
        return self.became.total()


class Judging:
    """The judges of some experiments. To be used as an asynchronous context, in one event loop.

    Args:
        ask: The way to the store.
        servers: The model servers.
    """

    def __init__(self, ask: Ask, servers: ModelServers) -> None:
        self._ask = ask
        self._servers = servers
        self._clients: dict[str, ChatClient] = {}
        self._closing = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._closing.aclose()

    def check(self, judge: Judge) -> None:
        """Raise if a judge cannot work with these settings.

        Raises:
            UnknownServer: Its server is not there, or does not moderate, or its budget needs a price that is not there.
            UnknownKey: The environment does not have the server's key.
        """
        client, prices = self._client(judge), self._servers.prices
        if judge.kind == "moderation" and client.server.moderation == "none":
            raise UnknownServer(
                f"judge '{judge.key}' moderates, and the model server '{judge.server}' has moderation = \"none\" in the"
                ' settings; allowed: "endpoint" if it has /moderations, "chat" for a guard model'
            )
        if judge.daily_usd is not None and (prices is None or prices.cost(judge.model, 0, 0) is None):
            raise UnknownServer(
                f"judge '{judge.key}' has daily_usd, and the settings have no price of '{judge.model}';"
                f' add [prices.models."{judge.model}"]'
            )

    async def run(
        self,
        experiment: Experiment,
        judge: Judge,
        *,
        limit: int | None = None,
        progress: Callable[[Summary], object] = lambda _: None,
    ) -> Summary:
        """Judge what waits, until nothing is left, the budget or the limit is reached, or the server fails.

        Args:
            experiment: Whose interactions.
            judge: One of its judges.
            limit: Interactions, at most; None: all.
            progress: Told after each interaction.

        Raises:
            BanditError: The settings, or the store, do not let it work.
        """
        self.check(judge)
        version = version_of(judge)
        summary, at_once = Summary(), asyncio.Semaphore(judge.concurrency)

        async def settle(task: Task) -> None:
            async with at_once:
                await self._settle(experiment.key, judge, version, task, summary)
                progress(summary)

        while not summary.postponed and (limit is None or summary.judged < limit):
            wanted = judge.concurrency * AHEAD
            wanted = wanted if limit is None else min(wanted, limit - summary.judged)
            claimed = await self._ask(Claim(experiment.key, judge.key, version, wanted), PATIENCE)
            assert isinstance(claimed, Claimed)  # noqa: S101 - what a claim returns
            summary.out_of_budget = claimed.out_of_budget
            if not claimed.tasks and not claimed.more:
                break
            await self._all(experiment.key, judge, claimed.tasks, settle)
        return summary

    async def _all(
        self, key: str, judge: Judge, tasks: Sequence[Task], settle: Callable[[Task], Awaitable[None]]
    ) -> None:
        """Settle all; meanwhile they stay claimed, however long the model takes. What a stop leaves is given back."""
        left = {task.number for task in tasks}

        async def one(task: Task) -> None:
            await settle(task)
            left.discard(task.number)

        async def keep() -> None:
            while True:
                await asyncio.sleep(HOLD)
                await hold(LEASE)

        async def hold(seconds: float) -> None:
            with suppress(BanditError):  # else what was claimed comes again when its time is over
                await self._ask(Hold(key, judge.key, tuple(left), seconds), PATIENCE)

        keeping = asyncio.create_task(keep())
        try:
            # One that fails does not end the others, which are paid for.
            ends = await asyncio.gather(*map(one, tasks), return_exceptions=True)
            for fault in ends:
                if isinstance(fault, BaseException):
                    raise fault
        finally:
            keeping.cancel()
            if left:
                await hold(0.0)

    async def _settle(self, key: str, judge: Judge, version: str, task: Task, summary: Summary) -> None:
        """Judge one interaction and store what came of it."""
        try:
            found = await _judged(self._client(judge), judge, task)
        except ModelFault as fault:
            summary.postponed += 1
            summary.fault = str(fault)
            pause = PAUSE if fault.retry_after is None else max(fault.retry_after, 1.0)
            # What was heard before, and what those who gave no answer in time may have taken.
            prices = self._servers.prices
            spent = 0.0 if prices is None else prices.cost(judge.model, *fault.heard) or 0.0
            spent += self._most(judge, task, fault.timeouts) or 0.0
            await self._stored(PutBack(key, judge.key, task.number, pause, spent))
            return
        verdict = self._verdict(judge, task, found, summary)
        reward = None
        if verdict.scores is not None:
            metrics = {metric: feed.value(verdict.scores[feed.score]) for metric, feed in judge.feeds.items()}
            reward = Reward(task.user_id, f"judge:{version}:{task.number}", metrics, task.variant_id)
        became = await self._stored(Settle(key, judge.key, version, task.number, verdict, reward))
        summary.became[became] += 1
        if verdict.reason is not None:
            summary.reasons[verdict.reason] += 1
            summary.why_unscored = verdict.reasoning

    async def _stored(self, step: Settle | PutBack) -> str:
        """Have stored what came of an interaction, also while the store is busy for a while: it was paid for."""
        for pause in (1.0, 5.0, 25.0):
            with suppress(StoreUnavailable):
                return str(await self._ask(step, PATIENCE))
            await asyncio.sleep(pause)
        return str(await self._ask(step, PATIENCE))

    def _verdict(self, judge: Judge, task: Task, found: Judged | Unscored, summary: Summary) -> Verdict:
        tokens = found.prompt_tokens, found.completion_tokens
        prices, cost = self._servers.prices, None
        if prices is not None and tokens[0] is not None and tokens[1] is not None:
            cost = prices.cost(judge.model, tokens[0], tokens[1])
        else:
            cost = self._most(judge, task, found.attempts)
        summary.prompt_tokens += tokens[0] or 0
        summary.completion_tokens += tokens[1] or 0
        summary.cost_usd += cost or 0.0
        summary.without_price += cost is None
        if isinstance(found, Judged):
            return Verdict(found.scores, found.reasoning, None, *tokens, cost, found.attempts, found.model)
        return Verdict(None, found.detail, found.reason, *tokens, cost, found.attempts, found.model)

    def _most(self, judge: Judge, task: Task, attempts: int) -> float | None:
        """Return more than some questions hardly cost: a server that does not say must not make a budget endless."""
        prices = self._servers.prices
        if prices is None or judge.daily_usd is None:
            return None
        longest = None if judge.kind == "moderation" else LONGEST_TEXT
        texts = (task.user_input[:longest], task.model_output[:longest], judge.rubric or "")
        # Half of the bytes: twice what English has in tokens, and as many as most other scripts have at most.
        prompt = sum(len(text.encode(errors="replace")) for text in texts) + _FRAME
        return prices.cost(judge.model, attempts * prompt // 2, attempts * ANSWER_TOKENS)

    def _client(self, judge: Judge) -> ChatClient:
        client = self._clients.get(judge.server)
        if client is None:
            settings = self._servers.servers.get(judge.server)
            if settings is None:
                names = ", ".join(f"'{name}'" for name in self._servers.servers)
                raise UnknownServer(
                    f"judge '{judge.key}' names the model server '{judge.server}', and the settings have {names}"
                )
            client = self._clients[judge.server] = ChatClient(settings)
            self._closing.push_async_callback(client.close)
        return client


async def judge_for_ever(
    judging: Judging, experiments: Callable[[], Mapping[str, Experiment]], rest: float = REST
) -> None:
    """Judge what comes, until cancelled; what goes wrong is said in the log, once, and tried again.

    Args:
        judging: The judges.
        experiments: Returns those to look after, by key; asked again at each look.
        rest: Seconds between looks.
    """
    said: dict[tuple[str, str], str] = {}
    while True:
        busy = False
        for key, experiment in experiments().items():
            for one in experiment.judges:
                n, trouble = await _look(judging, experiment, one)
                busy = busy or n > 0
                if trouble and said.get((key, one.key)) != trouble:
                    log.warning("judge '%s' of experiment '%s': %s", one.key, key, trouble)
                said[key, one.key] = trouble
        await asyncio.sleep(0.0 if busy else rest)


async def _look(judging: Judging, experiment: Experiment, judge: Judge) -> tuple[int, str]:
    """Judge some of what waits, so that others have their turn; return how many, and what is in the way, or ""."""
    try:
        summary = await judging.run(experiment, judge, limit=judge.concurrency * AHEAD)
    except BanditError as error:
        return 0, str(error)
    except Exception:
        log.exception("judge '%s' of experiment '%s' failed unforeseen", judge.key, experiment.key)
        return 0, ""
    if summary.postponed:
        return 0, f"its model server does not answer now: {summary.fault}"
    if summary.judged and summary.reasons.total() == summary.judged:
        return summary.judged, f"it leaves all unscored now: {summary.why_unscored}"
    return summary.judged, "the day's budget is spent" if summary.out_of_budget else ""


def version_of(judge: Judge) -> str:
    """Return the version of a judge, which is stored with its scores."""
    rubric = "" if judge.kind == "moderation" else judge.rubric or DEFAULT_RUBRIC
    return judge_version(judge.server, judge.model, rubric, judge.scores, *judge.scale)


async def _judged(client: ChatClient, asked: Judge, task: Task) -> Judged | Unscored:
    if asked.kind == "moderation":
        return await moderate(client, asked.model, task.user_input, task.model_output)
    return await judge(
        client, asked.model, asked.rubric or DEFAULT_RUBRIC, asked.scores, *asked.scale, user_input=task.user_input,
        model_output=task.model_output,
    )  # fmt: skip
