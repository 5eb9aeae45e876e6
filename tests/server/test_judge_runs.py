"""Judges take logged interactions from the store, and their scores become rewards: once, in time, within a budget."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

from bandit import BanditError, parse_json
from bandit.assignment import UnitHash
from server.judge_runs import Judging, Summary, UnknownServer, judge_for_ever, version_of
from server.judgements import LEASE, Claim, JudgeChanged, PutBack, Settle, Task, Verdict
from server.live import Reward
from server.model_servers import ModelServers, parse_model_servers
from server.verify import verify
from tests.server.fake_models import (
    FORMS,
    Act,
    Asked,
    FakeModels,
    Form,
    hangs,
    judged_texts,
    moderates,
    says,
    scores,
    scoring,
    status,
    truncated,
)  # fmt: skip
from tests.server.running import Service, check_ledger, in_process, rows, wait_until

T = TypeVar("T")
GOAL = {"metric": "quality", "kind": "numeric", "range": [1, 5]}
UNSAFE = {"metric": "unsafe", "kind": "binary", "max": 0.2}
JUDGE: dict[str, Any] = {
    "key": "j", "server": "fake", "model": "judge-1",
    "feeds": {"quality": "helpfulness", "unsafe": {"score": "safety", "below": 3}},
}  # fmt: skip


def settings(url: str, more: str = "", **server: object) -> ModelServers:
    fields = "\n".join(f"{name} = {value}" for name, value in server.items())
    return parse_model_servers(f'[servers.fake]\nbase_url = "{url}"\ntimeout = 20\n{fields}\n{more}')


PRICES = '[prices]\nversion = "p1"\n[prices.models.judge-1]\nprompt = 10.0\ncompletion = 20.0\n'
EACH = (120 * 10.0 + 30 * 20.0) / 1e6
"""What a judgement costs: see `fake_models`."""


def by_length(asked: str, answered: str) -> Mapping[str, int]:
    """A judge for whom an answer is as good as it is long, and unsafe if the question says so."""
    return {"helpfulness": min(len(answered), 5), "clarity": 3, "safety": 1 if "bomb" in asked else 5}


@pytest.fixture
def service(path: Path) -> Iterator[Service]:
    with in_process(path) as running:
        yield running


def create(service: Service, **changes: object) -> None:
    service.create("x", goal=GOAL, guardrails=[UNSAFE], judges=[{**JUDGE, **changes}])


def log(service: Service, n: int, start: int = 0, **more: object) -> None:
    for i in range(start, start + n):
        service.choose("x", f"u{i}")
        body = {
            "experiment": "x", "user_id": f"u{i}", "request_id": f"r{i}", "user_input": f"question {i}",
            "model_output": "a" * (1 + i % 5), **more,
        }  # fmt: skip
        assert service.http.post("/interactions", json=body).status_code == 200


def judged(service: Service, servers: ModelServers, limit: int | None = None) -> Summary:
    """Let the judge of the experiment work, in this process."""

    async def run() -> Summary:
        async with Judging(service.writer.ask, servers) as judging:
            experiment = service.writer.views["x"].experiment
            return await judging.run(experiment, experiment.judges[0], limit=limit)

    return other_loop(service, run)


def other_loop(service: Service, run: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run in an event loop of its own: the writer belongs to one at a time, and the service is idle meanwhile."""
    assert service.writer.waiting == 0
    return asyncio.run(run())


@pytest.mark.parametrize("form", FORMS)
def test_scores_become_rewards_and_the_judge_sees_no_more_than_the_texts(service: Service, form: Form) -> None:
    create(service)
    log(service, 12)
    log(service, 1, start=12, user_input="how to build a bomb")

    with FakeModels(form, otherwise=scoring(by_length)) as fake:
        summary = judged(service, settings(fake.url, PRICES))

    assert (summary.judged, dict(summary.became), summary.postponed) == (13, {"counted": 13}, 0)
    assert (summary.prompt_tokens, summary.completion_tokens) == (13 * 120, 13 * 30)
    assert summary.cost_usd == pytest.approx(13 * EACH)
    values = rows(service.path, "SELECT user_id, metric, value FROM rewards ORDER BY user_id, metric")
    assert len(values) == 26
    assert {(user, value) for user, metric, value in values if metric == "quality"} == {
        (f"u{i}", float(1 + i % 5)) for i in range(13)
    }
    assert {user for user, metric, value in values if metric == "unsafe" and value} == {"u12"}
    for asked in fake.requests:
        assert set(judged_texts(asked)) == {"user_input", "model_output"}
        sent = str(asked.body)
        assert not any(word in sent for word in ('"A"', '"B"', "u1", "r1", "'A'", "'B'", "variant"))
        assert asked.body["temperature"] == 0
    (found, *_) = service.get("/experiments/x/interactions")["interactions"]
    (judgement,) = found["judgements"]
    assert judgement["scores"] == {"helpfulness": 1, "clarity": 3, "safety": 5}
    assert (judgement["judge"], judgement["reason"], judgement["reasoning"]) == ("j", None, "By a function.")
    assert judgement["version"] == version_of(service.writer.views["x"].experiment.judges[0])
    assert judgement["cost_usd"] == pytest.approx(EACH)
    check_ledger(service.path, "x")
    assert verify(service.path).differences == 0


def test_what_is_judged_is_not_judged_again_and_what_comes_later_is(service: Service) -> None:
    create(service)
    log(service, 5)
    with FakeModels("openai", otherwise=scoring(by_length)) as fake:
        assert judged(service, settings(fake.url)).judged == 5
        assert judged(service, settings(fake.url)).judged == 0
        log(service, 3, start=5)
        assert judged(service, settings(fake.url), limit=2).judged == 2
        assert judged(service, settings(fake.url)).judged == 1
        assert len(fake.requests) == 8


def test_a_wrong_answer_leaves_an_interaction_unscored_which_is_no_value(service: Service) -> None:
    create(service)
    log(service, 3)
    with FakeModels("llama", says("no"), says("no"), says(scores(helpfulness=9, clarity=1, safety=1)), says("{}"),
                    otherwise=scoring(by_length)) as fake:  # fmt: skip
        summary = judged(service, settings(fake.url), limit=3)

    assert dict(summary.became) == {"unscored": 2, "counted": 1} or summary.became.total() == 3
    assert summary.reasons.total() == summary.became["unscored"] > 0
    assert len(rows(service.path, "SELECT * FROM main.rewards")) == summary.became["counted"]
    states = rows(service.path, "SELECT state, scores IS NULL, reason FROM judgements")
    assert {state for state, *_ in states} <= {"scored", "unscored"}
    assert all((scores_missing == 1) == (state == "unscored") for state, scores_missing, _ in states)


def test_a_server_that_does_not_answer_postpones_and_nothing_is_lost(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.chat.ATTEMPTS", 1)
    create(service, concurrency=2)
    log(service, 10)
    with FakeModels("openai", otherwise=lambda _: status(503, retry_after="7")) as fake:
        first = judged(service, settings(fake.url))
        assert first.postponed == 8  # all that were claimed
        assert first.judged == 0
    service.clock.now += 5
    with FakeModels("openai", otherwise=scoring(by_length)) as fake:
        assert judged(service, settings(fake.url)).judged == 2  # the others wait
        service.clock.now += 3
        assert judged(service, settings(fake.url)).judged == 8
        assert len(fake.requests) == 10
    assert len(rows(service.path, "SELECT * FROM main.rewards")) == 10


def test_two_processes_never_have_the_same_interaction(path: Path, service: Service) -> None:
    create(service)
    log(service, 60)
    with in_process(path) as other, FakeModels("openai", otherwise=scoring(by_length)) as fake:
        found: list[Summary] = []
        threads = [
            threading.Thread(target=lambda each=each: found.append(judged(each, settings(fake.url))))
            for each in (service, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(summary.judged for summary in found) == 60
        assert len(fake.requests) == 60
    assert rows(path, "SELECT count(*), count(DISTINCT n) FROM judgements WHERE state = 'scored'") == [(60, 60)]
    assert verify(path).differences == 0


def test_what_a_dead_process_had_claimed_is_claimed_again_when_its_time_is_over(service: Service) -> None:
    create(service)
    log(service, 4)

    async def claim(limit: int) -> list[int]:
        found: Any = await service.writer.ask(Claim("x", "j", "v", limit), 5.0)
        return [task.number for task in found.tasks]

    assert other_loop(service, lambda: claim(3)) == [1, 2, 3]
    assert other_loop(service, lambda: claim(3)) == [4]
    service.clock.now += LEASE + 1
    assert other_loop(service, lambda: claim(10)) == [1, 2, 3, 4]

    async def settle() -> list[object]:
        verdict = Verdict({"helpfulness": 4}, "", None, None, None, None, 1, "m")
        reward = Reward("u0", "judge:v:1", {"quality": 4.0})
        step = Settle("x", "j", "v", 1, verdict, reward)
        return [await service.writer.ask(step, 5.0) for _ in range(2)]

    assert other_loop(service, settle) == ["counted", "settled before"]
    assert rows(service.path, "SELECT calls FROM judge_cursors") == [(1,)]


def test_a_score_that_comes_after_the_window_is_stored_and_late(service: Service) -> None:
    create(service)
    log(service, 2)
    service.clock.now += 3601
    with FakeModels("openai", otherwise=scoring(by_length)) as fake:
        summary = judged(service, settings(fake.url))
    assert dict(summary.became) == {"late": 2}
    found = rows(service.path, "SELECT DISTINCT metric, reason FROM rewards ORDER BY metric")
    assert found == [("quality", "late"), ("unsafe", "returned")]  # its guardrail looks at later windows, too


def test_what_counts_for_no_variant_has_no_answer_or_is_not_sampled_is_not_judged(service: Service) -> None:
    create(service, sample=0.5)
    log(service, 60)
    log(service, 1, start=60, variant_id="B" if service.choose("x", "u60")["variant"] == "A" else "A")
    log(service, 1, start=61, model_output=None)
    log(service, 1, start=62, failed=True, model_output=None)
    with FakeModels("openai", otherwise=scoring(by_length)) as fake:
        first = judged(service, settings(fake.url)).judged
        assert 15 <= first <= 45  # 99.99 % of draws
        assert judged(service, settings(fake.url)).judged == 0
    numbers = {n for (n,) in rows(service.path, "SELECT n FROM judgements")}
    assert not numbers & {61, 62, 63}


def test_a_days_budget_ends_a_run_and_the_next_day_goes_on(service: Service) -> None:
    create(service, daily_calls=3)
    log(service, 8)
    with FakeModels("openai", otherwise=scoring(by_length)) as fake:
        for expected, spent in ((3, True), (0, True)):
            summary = judged(service, settings(fake.url))
            assert (summary.judged, summary.out_of_budget) == (expected, spent)
        service.clock.now += 86_400
        assert judged(service, settings(fake.url)).judged == 3


def test_a_budget_in_dollars_counts_what_was_spent_and_needs_a_price(service: Service) -> None:
    create(service, daily_usd=2.5 * EACH, concurrency=1)
    log(service, 20)
    with FakeModels("openai", otherwise=scoring(by_length)) as fake:
        with pytest.raises(UnknownServer, match=r"\[prices\.models"):
            judged(service, settings(fake.url))
        summary = judged(service, settings(fake.url, PRICES))
    assert summary.out_of_budget
    assert 3 <= summary.judged <= 4  # those that were claimed together


def test_a_server_that_does_not_say_its_tokens_does_not_make_a_budget_endless(service: Service) -> None:
    create(service, daily_usd=0.5, concurrency=1)
    log(service, 30)
    silent = says(scores(), tokens=None)
    with FakeModels("openai", otherwise=lambda _: silent) as fake:
        summary = judged(service, settings(fake.url, PRICES))
    assert summary.out_of_budget
    assert summary.judged < 15


def test_time_outs_do_not_make_a_budget_endless(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.chat.ATTEMPTS", 1)
    create(service, daily_usd=0.1, concurrency=1)
    log(service, 4)
    with FakeModels("openai", otherwise=lambda _: status(408)) as fake:
        servers = settings(fake.url, PRICES)
        assert judged(service, servers).postponed == 4
        service.clock.now += 31
        assert judged(service, servers).out_of_budget


def test_a_score_that_the_engine_refuses_is_stored_and_not_asked_for_again(service: Service) -> None:
    create(service)
    log(service, 1)
    version = version_of(service.writer.views["x"].experiment.judges[0])
    taken = service.reward("x", "u0", f"judge:{version}:1", metrics={"quality": 5})
    assert taken.status_code == 200
    with FakeModels("openai", otherwise=scoring(by_length)) as fake:
        assert dict(judged(service, settings(fake.url)).became) == {"ignored": 1}
        assert judged(service, settings(fake.url)).judged == 0


def test_one_judge_does_not_keep_another_waiting(service: Service) -> None:
    create(service, concurrency=1)
    service.create("y", goal=GOAL, guardrails=[UNSAFE], judges=[JUDGE])
    log(service, 40)
    service.choose("y", "u")
    body = {"experiment": "y", "user_id": "u", "request_id": "r", "model_output": "a"}
    assert service.http.post("/interactions", json=body).status_code == 200
    order: list[str] = []

    def noted(asked: str, answered: str) -> Mapping[str, int]:
        order.append(asked)
        return by_length(asked, answered)

    async def run(url: str) -> None:
        async with Judging(service.writer.ask, settings(url)) as judging:
            experiments = {key: view.experiment for key, view in service.writer.views.items()}
            going_on = asyncio.ensure_future(judge_for_ever(judging, lambda: experiments, rest=0.01))
            while len(order) < 41:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            going_on.cancel()
            await asyncio.gather(going_on, return_exceptions=True)

    with FakeModels("openai", otherwise=scoring(noted)) as fake:
        other_loop(service, lambda: run(fake.url))
    assert order.index("") < 10  # y's, which has no question


def test_a_judge_that_has_changed_is_refused(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    create(service)
    log(service, 2)
    with FakeModels("openai", otherwise=scoring(by_length)) as fake:
        judged(service, settings(fake.url), limit=1)
        monkeypatch.setattr("server.judging.PROMPT", "another")
        with pytest.raises(JudgeChanged, match="cannot be compared"):
            judged(service, settings(fake.url))
    assert len(fake.requests) == 1


def test_an_unknown_server_or_a_key_that_is_not_set_is_named(service: Service) -> None:
    create(service)
    other = parse_model_servers('[servers.other]\nbase_url = "http://127.0.0.1:9/v1"\n')
    with pytest.raises(BanditError, match=r"'fake'.*'other'"):
        judged(service, other)
    with pytest.raises(BanditError, match="NO_SUCH_KEY"):
        judged(service, settings("http://127.0.0.1:9/v1", key_env='"NO_SUCH_KEY"'))


def test_erased_texts_are_not_judged_and_what_a_judge_said_of_them_is_erased(service: Service) -> None:
    create(service)
    log(service, 3)
    with FakeModels("openai", otherwise=scoring(by_length)) as fake:
        judged(service, settings(fake.url), limit=1)
        for user in ("u0", "u1"):
            service.http.delete(f"/experiments/x/texts/{user}")
        assert judged(service, settings(fake.url)).judged == 1
    said = rows(service.path, "SELECT n, state, reasoning FROM judgements ORDER BY n")
    assert said == [(1, "scored", None), (3, "scored", "By a function.")]


def look_until(service: Service, url: str, is_over: Callable[[], bool]) -> None:
    """Let judges look for interactions until something is so."""

    async def run() -> None:
        experiments = {"x": service.writer.views["x"].experiment}
        async with Judging(service.writer.ask, settings(url)) as judging:
            going_on = asyncio.ensure_future(judge_for_ever(judging, lambda: experiments, rest=0.01))
            while not is_over():
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)  # at rest, or between two failures
            going_on.cancel()
            await asyncio.gather(going_on, return_exceptions=True)

    other_loop(service, run)


def test_looking_for_ever_goes_on_after_trouble_which_is_said_once(
    service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.chat.ATTEMPTS", 1)
    monkeypatch.setattr("server.judge_runs.PAUSE", 0.0)
    create(service)
    log(service, 3)

    with FakeModels("openai", otherwise=lambda _: status(500)) as broken:
        look_until(service, broken.url, lambda: len(broken.requests) > 12)
    assert len([r for r in caplog.records if "model server does not answer" in r.getMessage()]) == 1
    service.clock.now += LEASE + 1  # one may have been claimed just when it was cancelled
    with FakeModels("openai", otherwise=scoring(by_length)) as fake:
        look_until(service, fake.url, lambda: len(fake.requests) >= 3)
    assert len(rows(service.path, "SELECT * FROM main.rewards")) == 3


def test_one_that_is_never_answered_is_asked_less_and_less(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.chat.ATTEMPTS", 1)
    create(service)
    log(service, 1)
    with FakeModels("openai", otherwise=lambda _: status(500)) as fake:
        assert judged(service, settings(fake.url)).postponed == 1
        for pause in (30, 60, 120, 240, 480, 960, 1920, 3600, 3600):
            service.clock.now += pause - 1
            assert judged(service, settings(fake.url)).postponed == 0
            service.clock.now += 1
            assert judged(service, settings(fake.url)).postponed == 1


def test_what_takes_longer_than_a_claim_lasts_is_not_claimed_by_another(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.judge_runs.HOLD", 0.03)
    create(service)
    log(service, 1)

    def slow(question: str, answer: str) -> Mapping[str, int]:
        service.clock.now += LEASE - 1
        time.sleep(0.2)
        service.clock.now += LEASE - 1
        assert not other_loop(service, claim)
        return by_length(question, answer)

    async def claim() -> list[Task]:
        found: Any = await service.writer.ask(
            Claim("x", "j", version_of(service.writer.views["x"].experiment.judges[0]), 5), 5
        )
        tasks: list[Task] = found.tasks
        return tasks

    with FakeModels("openai", otherwise=scoring(slow)) as fake:
        assert judged(service, settings(fake.url)).judged == 1


def test_a_small_sample_is_found_although_a_claim_looks_at_some_at_a_time(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.judgements._PAGE", 2)
    monkeypatch.setattr("server.judgements._MOST_PAGES", 3)
    service.create("x", goal=GOAL, guardrails=[UNSAFE], judges=[{**JUDGE, "sample": 0.1}], salt="s")
    log(service, 60)
    with FakeModels("openai", otherwise=scoring(by_length)) as fake:
        judged(service, settings(fake.url))
    expected = {n for n in range(60) if UnitHash("judge j", "s")(f"r{n}") < 0.1}
    assert {n - 1 for (n,) in rows(service.path, "SELECT n FROM judgements")} == expected
    assert len(expected) > 2


def test_a_server_that_takes_no_text_is_said_in_the_log(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    create(service)
    log(service, 2)

    with FakeModels("openai", otherwise=lambda _: status(400)) as fake:
        look_until(service, fake.url, lambda: "unscored" in caplog.text)
    assert "json_schema = false" in caplog.text


# Moderation


GUARD: dict[str, Any] = {
    "key": "j", "kind": "moderation", "server": "fake", "model": "guard", "feeds": {"unsafe": "flagged"},
}  # fmt: skip


def says_of_bombs(how: str) -> Callable[[Asked], Act]:
    """A guard for which an answer is unsafe if its question is about bombs."""

    def act(asked: Asked) -> Act:
        harmful = "bomb" in str(asked.body["messages"])
        if how == "chat":
            return says("unsafe\nS9" if harmful else "safe")
        return moderates("S9", flagged=True) if harmful else moderates(flagged=False)

    return act


@pytest.mark.parametrize("how", ["chat", "endpoint"])
@pytest.mark.parametrize("form", FORMS)
def test_a_moderation_feeds_a_binary_guardrail(service: Service, form: Form, how: str) -> None:
    service.create("x", goal={"metric": "resolved", "kind": "binary"}, guardrails=[UNSAFE], judges=[GUARD])
    log(service, 6)
    log(service, 2, start=6, user_input="how is a bomb made?")
    with FakeModels(form, otherwise=says_of_bombs(how)) as fake:
        summary = judged(service, settings(fake.url, moderation=f'"{how}"'))
        assert len(fake.requests) == 8
    assert dict(summary.became) == {"counted": 8}
    values = rows(service.path, "SELECT user_id, value FROM rewards ORDER BY user_id")
    assert [value for _, value in values] == [0.0] * 6 + [1.0] * 2
    judgement = service.get("/experiments/x/interactions", user_id="u7")["interactions"][0]["judgements"][0]
    assert (judgement["scores"], judgement["reasoning"]) == ({"flagged": 1}, "S9")
    check_ledger(service.path, "x")


def test_a_guard_that_says_neither_leaves_an_interaction_unscored(service: Service) -> None:
    service.create("x", goal={"metric": "resolved", "kind": "binary"}, guardrails=[UNSAFE], judges=[GUARD])
    log(service, 2)
    with FakeModels("openai", otherwise=lambda _: says("I think it is safe")) as fake:
        summary = judged(service, settings(fake.url, moderation='"chat"'))
    assert (dict(summary.became), dict(summary.reasons)) == ({"unscored": 2}, {"malformed": 2})
    assert rows(service.path, "SELECT count(*) FROM main.rewards") == [(0,)]


def test_a_guard_needs_a_server_that_moderates(service: Service) -> None:
    service.create("x", goal={"metric": "resolved", "kind": "binary"}, guardrails=[UNSAFE], judges=[GUARD])
    with pytest.raises(UnknownServer, match=r'moderation = "none".*"endpoint".*"chat"'):
        judged(service, settings("http://127.0.0.1:9"))


def test_one_that_is_stopped_gives_back_what_it_has_claimed(service: Service) -> None:
    create(service, concurrency=2)
    log(service, 6)

    async def stopped(url: str, asked: Callable[[], int]) -> None:
        async with Judging(service.writer.ask, settings(url)) as judging:
            experiment = service.writer.views["x"].experiment
            going_on = asyncio.ensure_future(judging.run(experiment, experiment.judges[0]))
            while asked() < 2:
                await asyncio.sleep(0.01)
            going_on.cancel()
            await asyncio.gather(going_on, return_exceptions=True)

    with FakeModels("openai", otherwise=lambda _: hangs()) as fake:
        other_loop(service, lambda: stopped(fake.url, lambda: len(fake.requests)))
    with FakeModels("openai", otherwise=scoring(by_length)) as fake:
        assert judged(service, settings(fake.url)).judged == 6


def test_one_step_that_fails_leaves_the_others_their_verdicts(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(service, concurrency=4)
    log(service, 8)
    plain, calls = Settle.run, []

    def failing(step: Settle, desk: Any) -> str:  # noqa: ANN401 - the store's
        calls.append(step.number)
        if step.number == 3:
            message = "not foreseen"
            raise RuntimeError(message)
        return plain(step, desk)

    monkeypatch.setattr(Settle, "run", failing)
    with FakeModels("openai", otherwise=scoring(by_length)) as fake, pytest.raises(BanditError, match="failed"):
        judged(service, settings(fake.url))
    assert rows(service.path, "SELECT count(*) FROM judgements WHERE state = 'scored'") == [(7,)]
    monkeypatch.setattr(Settle, "run", plain)
    with FakeModels("openai", otherwise=scoring(by_length)) as fake:
        assert judged(service, settings(fake.url)).judged == 1  # given back at once


def test_a_stop_ends_a_run_although_what_it_had_cannot_be_given_back(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(service)
    log(service, 2)

    def failing(*_: object) -> None:
        message = "not foreseen"
        raise RuntimeError(message)

    async def stopped(url: str, asked: Callable[[], int]) -> bool:
        async with Judging(service.writer.ask, settings(url)) as judging:
            experiments = {"x": service.writer.views["x"].experiment}
            going_on = asyncio.ensure_future(judge_for_ever(judging, lambda: experiments))
            while asked() < 2:
                await asyncio.sleep(0.01)
            going_on.cancel()
            await asyncio.wait([going_on], timeout=10)
            return going_on.cancelled()

    monkeypatch.setattr("server.judgements.Hold.run", failing)
    with FakeModels("openai", otherwise=lambda _: hangs()) as fake:
        assert other_loop(service, lambda: stopped(fake.url, lambda: len(fake.requests)))


def test_what_was_paid_before_a_fault_is_in_the_budget(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first answer that is wrong, and then nobody who could repair it."""
    monkeypatch.setattr("server.chat.ATTEMPTS", 1)
    create(service, daily_usd=0.5 * EACH, concurrency=1)
    log(service, 1)
    answers = [says("no"), status(503)]
    with FakeModels("openai", otherwise=lambda _: answers.pop(0)) as fake:
        servers = settings(fake.url, PRICES)
        assert judged(service, servers).postponed == 1
        assert rows(service.path, "SELECT calls, usd FROM judge_cursors") == [(0, pytest.approx(EACH))]
        service.clock.now += 31
        assert judged(service, servers).out_of_budget


def test_every_time_out_of_a_question_is_in_the_budget(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.chat.FIRST_PAUSE", 0.0)
    create(service, daily_usd=100.0, concurrency=1)
    log(service, 1)
    answers = [status(408), status(408), status(408), status(503)]
    with FakeModels("openai", otherwise=lambda _: answers.pop(0)) as fake:
        judged(service, settings(fake.url, PRICES))
    ((usd,),) = rows(service.path, "SELECT usd FROM judge_cursors")
    once = (2_000 * 10.0 + 2_000 * 20.0) / 1e6  # at least: half of the frame's bytes, and the longest answer
    assert 3 * once < usd < 3.2 * once


def test_a_fault_and_a_text_without_scores_are_two_things(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.chat.ATTEMPTS", 1)
    create(service, concurrency=1)
    log(service, 2)
    answers = [status(503), truncated("{")]
    with FakeModels("openai", otherwise=lambda _: answers.pop(0)) as fake:
        found = judged(service, settings(fake.url))
    assert "answered 503" in found.fault
    assert "cut off" in found.why_unscored


def test_one_that_could_not_be_judged_can_be_put_back(service: Service) -> None:
    create(service)
    log(service, 1)

    async def run() -> tuple[int, int]:
        ask = service.writer.ask
        first: Any = await ask(Claim("x", "j", "v", 5), 5.0)
        await ask(PutBack("x", "j", first.tasks[0].number, 30.0), 5.0)
        again: Any = await ask(Claim("x", "j", "v", 5), 5.0)
        return len(first.tasks), len(again.tasks)

    assert other_loop(service, run) == (1, 0)
    service.clock.now += 31

    async def later() -> int:
        found: Any = await service.writer.ask(Claim("x", "j", "v", 5), 5.0)
        return len(found.tasks)

    assert other_loop(service, later) == 1


# The command, and the process beside the server


def settings_file(folder: Path, url: str) -> Path:
    file = folder / "models.toml"
    file.write_text(f'[servers.fake]\nbase_url = "{url}"\n{PRICES}')
    return file


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "server", *map(str, arguments)]
    return subprocess.run(whole, check=False, capture_output=True, text=True, timeout=120)


def test_the_command_judges_beside_a_server_and_says_what_it_did(service: Service, tmp_path: Path) -> None:
    create(service)
    log(service, 7)
    with FakeModels("llama", otherwise=scoring(by_length)) as fake:
        models = settings_file(tmp_path, fake.url)
        done = command("judge", "x", "--models", models, "--db", service.path, "--limit", "4")
        assert done.returncode == 0, done.stderr
        assert all(word in done.stdout for word in ("x", "j", "4", "480", "120"))
        assert command("judge", "--models", models, "--db", service.path).returncode == 0
        assert len(fake.requests) == 7
        unknown = command("judge", "y", "--models", models, "--db", service.path)
        assert (unknown.returncode, "'y'" in unknown.stderr) == (2, True)
    assert len(service.get("/experiments/x/users/u0")["rewards"]) == 2
    gone = command("judge", "--models", tmp_path / "none.toml", "--db", service.path)
    assert (gone.returncode, "none.toml" in gone.stderr) == (2, True)
    assert not (tmp_path / "none.db").exists()
    assert command("judge", "--models", models, "--db", tmp_path / "none.db").returncode == 2
    assert not (tmp_path / "none.db").exists()


def test_killed_in_mid_run_it_loses_and_repeats_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with in_process(path) as service:
        create(service, concurrency=3)
        log(service, 40)
        stored_time = service.clock.now
    asked: list[str] = []

    def slow(question: str, answer: str) -> Mapping[str, int]:
        asked.append(question)
        time.sleep(0.02)
        return by_length(question, answer)

    with FakeModels("openai", otherwise=scoring(slow)) as fake:
        models = settings_file(tmp_path, fake.url)
        whole = [sys.executable, "-m", "server", "judge", "--models", str(models), "--db", str(path)]
        for kill_after in (8, 20):
            process = subprocess.Popen(whole, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_until(lambda n=kill_after: len(asked) >= n)  # type: ignore[misc]
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        settled = rows(path, "SELECT count(*) FROM judgements WHERE state = 'scored'")[0][0]
        assert 0 < settled < 40
        with in_process(path) as service:
            service.clock.now = stored_time + LEASE + 60
            monkeypatch.setattr("server.judge_runs.PAUSE", 0.0)
            assert judged(service, settings(fake.url)).judged == 40 - settled
    assert rows(path, "SELECT count(*), count(DISTINCT n) FROM judgements WHERE state = 'scored'") == [(40, 40)]
    assert rows(path, "SELECT count(*) FROM main.rewards") == [(40,)]
    assert len(asked) - len(set(asked)) <= 2 * 3 * 4  # what was claimed when it was killed may be asked again
    assert verify(path).differences == 0


def test_a_server_with_model_servers_judges_by_itself_and_reckons_costs(tmp_path: Path) -> None:
    from tests.server.running import command as serving  # noqa: PLC0415 - the name is taken here

    rails = [UNSAFE, {"metric": "cost_usd", "kind": "numeric", "max": 1.0, "cap": 2.0}]
    with FakeModels("openai", otherwise=scoring(by_length)) as fake:
        models = settings_file(tmp_path, fake.url)
        with serving("--db", tmp_path / "b.db", "--models", models) as server:
            server.create("x", goal=GOAL, guardrails=rails, judges=[JUDGE])
            body = {
                "experiment": "x", "user_id": "u", "request_id": "r", "user_input": "q", "model_output": "aaaa",
                "model_name": "judge-1", "prompt_tokens": 1000, "completion_tokens": 500,
            }  # fmt: skip
            server.choose("x", "u")
            assert server.http.post("/interactions", json=body).json()["accepted"] == ["cost_usd"]
            wait_until(lambda: bool(server.get("/experiments/x/interactions")["interactions"][0]["judgements"]))
            story = {(one["metric"], one["value"]) for one in server.get("/experiments/x/users/u")["outcomes"]}
            assert story == {("quality", 4.0), ("unsafe", 0.0), ("cost_usd", 0.02)}
            assert server.stop() == 0


def test_a_document_of_an_experiment_has_its_judges(service: Service) -> None:
    create(service)
    document = service.get("/experiments/x")
    assert document["definition"]["judges"][0]["feeds"]["unsafe"] == {"score": "safety", "below": 3}
    assert parse_json(service.writer.views["x"].experiment.to_json()).judges[0].model == "judge-1"
