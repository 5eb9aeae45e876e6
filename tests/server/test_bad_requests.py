"""Every kind of fault on every route that takes a body: a problem document, the right status, and nothing changed.

The faults of a call are sent alone and as an item of a batch: there they have to be answered alike.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server import reading
from server.views import View
from tests.server.running import JSON, Service, declaration, everything, in_process, is_problem

CHOOSE: dict[str, Any] = {"experiment": "x", "user_id": "u"}
REWARD: dict[str, Any] = {"experiment": "x", "user_id": "known", "request_id": "r", "metrics": {"resolved": 1}}
INTERACTION: dict[str, Any] = {
    "experiment": "x", "user_id": "known", "request_id": "i", "latency_ms": 9.0, "user_input": "a", "model_output": "b",
}  # fmt: skip
STOP: dict[str, Any] = {"serve": "B"}
FORCE: dict[str, Any] = {"variant": "B"}
PATCH: dict[str, Any] = {"exposure": 0.5}
VERSION: dict[str, Any] = {"key": "B", "config": {"model": "m3"}, "reason": "clearer"}
NEW = declaration("new")
ROUTES: dict[str, dict[str, Any]] = {
    "/choose": CHOOSE,
    "/reward": REWARD,
    "/choose/batch": {"items": [CHOOSE]},
    "/reward/batch": {"items": [REWARD]},
    "/interactions": INTERACTION,
    "/interactions/batch": {"items": [INTERACTION]},
    "/experiments": NEW,
    "/experiments?dry_run=true": NEW,
    "/experiments/x/stop": STOP,
    "/experiments/x/start": {},
    "/experiments/x/pause": {},
    "/experiments/x/variants": VERSION,
    "/experiments/x/variants/B/suspend": {},
    "/experiments/x/variants/B/resume": {},
    "PUT /experiments/x/forced/u": FORCE,
    "PATCH /experiments/x": PATCH,
}
"""A good body by path, with the method if it is another than POST."""

DEEP = b'{"a":' * 20_000 + b"1" + b"}" * 20_000


def nested(depth: int) -> dict[str, Any]:
    """An object so many levels deep."""
    return {"a": nested(depth - 1)} if depth > 1 else {}


# Faults that every route refuses alike: body, headers, status.
EVERYWHERE: dict[str, tuple[bytes, dict[str, str], int]] = {
    "broken JSON": (b'{"experiment": "x"', JSON, 400),
    "not JSON": (b"experiment=x", JSON, 400),
    "two texts": (b"{} {}", JSON, 400),
    "NaN": (b'{"experiment": NaN}', JSON, 400),
    "Infinity": (b'{"experiment": -Infinity}', JSON, 400),
    "not UTF-8": (b'{"experiment": "\xff"}', JSON, 400),
    "raw NUL": (b'{"experiment": "\x00"}', JSON, 400),
    "byte order mark": (b"\xef\xbb\xbf{}", JSON, 400),
    "too deep": (DEEP[: 60 * 1024], JSON, 400),
    "a list": (b"[]", JSON, 422),
    "a number": (b"17", JSON, 422),
    "null": (b"null", JSON, 422),
    "a text": (b'"x"', JSON, 422),
    "beyond every double": (b'{"experiment": 1e999}', JSON, 422),
    "unknown field": (b'{"experimemt": "x"}', JSON, 422),
    "form": (b"experiment=x", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
    "plain text": (b"{}", {"Content-Type": "text/plain"}, 415),
    "no type": (b"{}", {}, 415),
    "too large": (b" " * 1_000_001, JSON, 413),
    "foreign origin": (b"{}", {**JSON, "Origin": "http://evil.example"}, 403),
    "opaque origin": (b"{}", {**JSON, "Origin": "null"}, 403),
    "foreign host": (b"{}", {**JSON, "Host": "evil.example"}, 403),
}

REASONS: list[tuple[dict[str, Any], int, str]] = [
    ({"reason": "a\nb"}, 422, "reason"),
    ({"reason": "a\0b"}, 422, "reason"),
    ({"reason": "r" * 2001}, 422, "reason"),
    ({"reason": None}, 422, "reason"),
    ({"reason": ["r"]}, 422, "reason"),
    ({"raeson": "r"}, 422, "raeson"),
]
BATCHES: list[tuple[dict[str, Any], int, str]] = [
    ({"items": []}, 422, "items"),
    ({"items": [1] * 1001}, 422, "items"),
    ({"items": None}, 422, "items"),
    ({"items": {"0": CHOOSE}}, 422, "items"),
    ({"items": "x"}, 422, "items"),
    ({"item": [CHOOSE]}, 422, "item"),
]

# Faults of one route: the good body with these fields put in (None in a list: taken out).
FIELDS: dict[str, list[tuple[dict[str, Any], int, str]]] = {
    "/choose": [
        ({"experiment": "y"}, 404, ""),
        ({"experiment": "x\0"}, 404, ""),
        ({"experiment": 1}, 422, "experiment"),
        ({"experiment": None}, 422, "experiment"),
        ({"user_id": ""}, 422, "user_id"),
        ({"user_id": 17}, 422, "user_id"),
        ({"user_id": True}, 422, "user_id"),
        ({"user_id": "a\0b"}, 422, "user_id"),
        ({"user_id": "a\nb"}, 422, "user_id"),
        ({"user_id": "\x7f"}, 422, "user_id"),
        ({"user_id": "u" * 201}, 422, "user_id"),
        ({"user_id": "ü" * 101}, 422, "user_id"),
        ({"user_id": ["u"]}, 422, "user_id"),
        ({"request_id": "a\0"}, 422, "request_id"),
        ({"request_id": "r" * 201}, 422, "request_id"),
        ({"request_id": 3}, 422, "request_id"),
        ({"attributes": "plan"}, 422, "attributes"),
        ({"attributes": []}, 422, "attributes"),
        ({"attributes": nested(21)}, 422, "attributes"),
        ({"attributes": nested(900)}, 422, "attributes"),
        ({"attributes": {"n": 2**64}}, 422, "attributes.n"),
        ({"attributes": {"n": {"m": 10**400}}}, 422, ""),
        ({"attributes": {"n": float("inf")}}, 400, ""),
        ({"userid": "u"}, 422, "userid"),
        ({"user_id": 1, "request_id": "a\0"}, 422, "user_id"),
        ({"user\n": "u"}, 422, "'user\\n'"),
        ({"u" * 9000: "u"}, 422, ""),
        ({f"user{i}": "u" for i in range(3000)}, 422, "user4"),
    ],
    "/reward": [
        ({"experiment": "y"}, 404, ""),
        ({"user_id": "stranger"}, 409, ""),
        ({"user_id": "a\0b"}, 422, "user_id"),
        ({"user_id": None}, 422, "user_id"),
        ({"request_id": None}, 422, "request_id"),
        ({"request_id": ""}, 422, "request_id"),
        ({"request_id": "r" * 201}, 422, "request_id"),
        ({"metrics": {}}, 422, "metrics"),
        ({"metrics": []}, 422, "metrics"),
        ({"metrics": 1}, 422, "metrics"),
        ({"metrics": {"resolved": "1"}}, 422, "metrics.resolved"),
        ({"metrics": {"resolved": 0.5}}, 422, "metrics.resolved"),
        ({"metrics": {"resolved": None}}, 422, "metrics.resolved"),
        ({"metrics": {"resolved": 10**400}}, 422, "metrics.resolved"),
        ({"metrics": {"cost_usd": True}}, 422, "metrics.cost_usd"),
        ({"metrics": {"cost_usd": "0.1"}}, 422, "metrics.cost_usd"),
        ({"metrics": {"cost_usd": 10**400}}, 422, "metrics.cost_usd"),
        ({"metrics": {"cost_usd": -(10**400)}}, 422, "metrics.cost_usd"),
        ({"metrics": {"cost_usd": -1}}, 422, "metrics.cost_usd"),
        ({"metrics": {"cost_usd": 1e300}}, 422, "metrics.cost_usd"),
        ({"metrics": {"cost_usd": {"a": 1}}}, 422, "metrics.cost_usd"),
        ({"metrics": {"cost_usd": ["x" * 9000]}}, 422, "metrics.cost_usd"),
        ({"metrics": {"resolved": 1, "unknown": 1}}, 422, "metrics.unknown"),
        ({"metrics": {"resolved": 1, "failed": 1}}, 422, "metrics.failed"),
        ({"metrics": {"a\0b": 1}}, 422, "metrics.a\0b"),
        ({"metrics": {"": 1}}, 422, "metrics."),
        ({"metrics": {"m" * 201: 1}}, 422, ""),
        ({"metrics": {"m" * 9000: 1}}, 422, ""),
        ({"metrics": {"resolved": nested(900)}}, 422, "metrics.resolved"),
        ({"metrics": {"resolved": "1", "cost_usd": [1]}}, 422, "metrics.cost_usd"),
        ({"metrics": {"resolved": float("nan")}}, 400, ""),
        ({"metrics": {f"m{i}": 1 for i in range(22)}}, 422, "metrics"),
        ({"metrics": {f"m{i}": 1 for i in range(2000)}}, 422, "metrics"),
        ({"variant": "Z"}, 422, "variant"),
        ({"variant": 1}, 422, "variant"),
        ({"variant": "Z" * 9000}, 422, "variant"),
        ({"experiment": "y" * 9000}, 404, ""),
        ({"experiment": True}, 422, "experiment"),
        ({"user_id": 1.5}, 422, "user_id"),
        ({"request_id": True}, 422, "request_id"),
        ({"request_id": "a\x85b"}, 422, "request_id"),
        ({"failed": 1}, 422, "failed"),
        ({"failed": "true"}, 422, "failed"),
        ({"replace": 1}, 422, "replace"),
        ({"replace": None}, 422, "replace"),
        ({"value": 1}, 422, "value"),
    ],
    "/experiments": [
        ({"key": "x"}, 409, ""),
        ({"key": "a/b"}, 422, "key"),
        ({"key": ".."}, 422, "key"),
        ({"key": "a\0"}, 422, "key"),
        ({"key": ""}, 422, "key"),
        ({"key": 1}, 422, "key"),
        ({"variants": []}, 422, "variants"),
        ({"variants": [{"key": "A"}, {"key": "A"}]}, 422, "variants"),
        ({"goal": {"metric": "m", "kind": "odd"}}, 422, "goal.kind"),
        ({"goal": {"metric": "m", "kind": "binary", "mde": "0.1"}}, 422, "goal.mde"),
        ({"polcy": {}}, 422, "polcy"),
        ({"salt": "a\0"}, 422, "salt"),
        ({"state": "running"}, 422, "state"),
    ],
    "/choose/batch": BATCHES,
    "/reward/batch": BATCHES,
    "/interactions/batch": BATCHES,
    "/interactions": [
        ({"experiment": "y"}, 404, ""),
        ({"experiment": None}, 422, "experiment"),
        ({"user_id": None}, 422, "user_id"),
        ({"user_id": "a\0b"}, 422, "user_id"),
        ({"request_id": ""}, 422, "request_id"),
        ({"request_id": "r" * 201}, 422, "request_id"),
        ({"variant_id": "Z"}, 422, "variant_id"),
        ({"variant_id": 1}, 422, "variant_id"),
        ({"latency_ms": -1}, 422, "latency_ms"),
        ({"latency_ms": 1e10}, 422, "latency_ms"),
        ({"latency_ms": True}, 422, "latency_ms"),
        ({"latency_ms": float("nan")}, 400, ""),
        ({"latency_ms": 10**400}, 422, ""),
        ({"prompt_tokens": 0.5}, 422, "prompt_tokens"),
        ({"prompt_tokens": 10**10}, 422, "prompt_tokens"),
        ({"completion_tokens": "7"}, 422, "completion_tokens"),
        ({"safety_flag": "yes"}, 422, "safety_flag"),
        ({"user_feedback_score": "good"}, 422, "user_feedback_score"),
        ({"failed": 0}, 422, "failed"),
        ({"model_name": ""}, 422, "model_name"),
        ({"system_prompt_version": "v" * 201}, 422, "system_prompt_version"),
        ({"user_input": 5}, 422, "user_input"),
        ({"user_input": "x" * 100_001}, 422, "user_input"),
        ({"model_output": ["b"]}, 422, "model_output"),
        ({"metrics": {"latency_ms": 1}}, 422, "metrics"),
        ({"created_at": "2026-01-01T00:00:00Z"}, 422, "created_at"),
    ],
    "/experiments/x/start": REASONS,
    "/experiments/x/pause": REASONS,
    "/experiments/x/variants/B/suspend": REASONS,
    "/experiments/x/variants/B/resume": REASONS,
    "PUT /experiments/x/forced/u": [
        *REASONS,
        ({"variant": "Z"}, 422, "variant"),
        ({"variant": "Z" * 9000}, 422, "variant"),
        ({"variant": 1}, 422, "variant"),
        ({"variant": None}, 422, "variant"),
        ({"arm": "B"}, 422, "arm"),
    ],
    "PATCH /experiments/x": [
        *REASONS,
        ({"exposure": True}, 422, "exposure"),
        ({"exposure": "0.5"}, 422, "exposure"),
        ({"exposure": 1.5}, 422, "exposure"),
        ({"exposure": -0.1}, 422, "exposure"),
        ({"exposure": 10**400}, 422, ""),
        ({"exposure": float("nan")}, 400, ""),
        ({"floor": 0.1}, 422, "floor"),
    ],
    "/experiments/x/stop": [
        *REASONS,
        ({"serve": "Z"}, 422, ""),
        ({"serve": 1}, 422, "serve"),
        ({"now": 1}, 422, "now"),
        ({"now": "yes"}, 422, "now"),
        ({"nwo": True}, 422, "nwo"),
    ],
    "/experiments/x/variants": [
        ({"key": "A"}, 409, ""),
        ({"key": "Z"}, 422, "key"),
        ({"key": ""}, 422, "key"),
        ({"key": 1}, 422, "key"),
        ({"key": None}, 422, "key"),
        ({"key": ["B"]}, 422, "key"),
        ({"key": "Z" * 9000}, 422, "key"),
        ({"config": None}, 422, "config"),
        ({"config": []}, 422, "config"),
        ({"config": "model"}, 422, "config"),
        ({"config": {"n": 2**64}}, 422, "config.n"),
        ({"config": {"n": 10**400}}, 422, ""),
        ({"config": {"n": float("nan")}}, 400, ""),
        ({"config": {"prompt": "x" * 950_000}}, 422, "config"),
        *REASONS,
        ({"confg": {}}, 422, "confg"),
        ({"control": True}, 422, "control"),
    ],
}


GOOD: dict[str, dict[str, Any]] = {
    "/choose": {"experiment": "x", "user_id": "known"},
    "/reward": {"experiment": "x", "user_id": "known", "request_id": "before", "metrics": {"resolved": 1}},
    "/interactions": {**INTERACTION, "request_id": "logged before"},
}
"""Calls that change nothing, because the same came before."""


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    path: Path = tmp_path_factory.mktemp("steady") / "b.db"
    with in_process(path) as service:
        service.create()
        for route, call in GOOD.items():
            assert service.http.post(route, json=call).status_code == 200
        yield service


def send(service: Service, route: str, body: bytes, headers: Mapping[str, str] = JSON) -> httpx.Response:
    method, _, path = route.rpartition(" ")
    return service.http.request(method or "POST", path, content=body, headers=dict(headers))


def outcome(response: httpx.Response) -> tuple[int, str | None, Any]:
    """Status, title and errors of a call or, if it is a batch, of its second item."""
    document = response.json()
    if response.status_code == 200 and "items" in document:
        document = document["items"][1]
        return document["status"], document.get("title"), document.get("errors")
    return response.status_code, document.get("title"), document.get("errors")


def between_good_ones(route: str, body: bytes) -> bytes:
    """A batch with a good call, this one, and a good one."""
    good = json.dumps(GOOD[route]).encode()
    return b'{"items": [%b, %b, %b]}' % (good, body, good)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("fault", EVERYWHERE)
def test_a_fault_that_every_route_refuses(steady: Service, route: str, fault: str) -> None:
    body, headers, status = EVERYWHERE[fault]
    if status == 413 and route == "/interactions/batch":
        body *= 8
    before = everything(steady.path)

    response = send(steady, route, body, headers)

    is_problem(response, status)
    assert everything(steady.path) == before


@pytest.mark.parametrize("route", GOOD)
@pytest.mark.parametrize("fault", [name for name, (_, headers, status) in EVERYWHERE.items() if status in (400, 422)])
def test_an_item_is_refused_like_the_same_call_alone_or_with_the_whole_batch_if_that_is_no_json(
    steady: Service, route: str, fault: str
) -> None:
    body, _, status = EVERYWHERE[fault]
    before = everything(steady.path)

    alone, batch = send(steady, route, body), send(steady, f"{route}/batch", between_good_ones(route, body))

    assert batch.status_code == (400 if status == 400 else 200)
    assert outcome(batch) == outcome(alone)
    assert everything(steady.path) == before


@pytest.mark.parametrize(
    ("route", "fields", "status", "field"),
    [(route, *case) for route, cases in FIELDS.items() for case in cases],
)
def test_a_fault_in_one_field(steady: Service, route: str, fields: dict[str, Any], status: int, field: str) -> None:
    before = everything(steady.path)
    body = json.dumps({**ROUTES[route], **fields}).encode()

    document = is_problem(send(steady, route, body), status)

    assert everything(steady.path) == before
    if field:
        assert field in [error["field"] for error in document["errors"]], document


@pytest.mark.parametrize(
    ("route", "fields", "status"), [(route, *case[:2]) for route in GOOD for case in FIELDS[route]]
)
def test_a_fault_in_one_field_of_an_item_is_answered_as_in_the_call_alone(
    steady: Service, route: str, fields: dict[str, Any], status: int
) -> None:
    before = everything(steady.path)
    body = json.dumps({**ROUTES[route], **fields}).encode()

    alone, batch = send(steady, route, body), send(steady, f"{route}/batch", between_good_ones(route, body))

    assert outcome(batch) == outcome(alone)
    if status == 400:
        is_problem(batch, 400)  # no text of JSON, so nobody can tell where its items are
    else:
        first, item, last = batch.json()["items"]
        assert item == alone.json()
        assert item["status"] == status
        assert first["status"] == last["status"] == 200
    assert everything(steady.path) == before


@pytest.mark.parametrize("route", ROUTES)
def test_a_query_parameter_that_is_not_known_is_refused(steady: Service, route: str) -> None:
    before = everything(steady.path)
    body = json.dumps(ROUTES[route]).encode()

    document = is_problem(send(steady, f"{route}{'&' if '?' in route else '?'}really=1", body), 422)

    assert "really" in document["detail"]
    assert everything(steady.path) == before


@pytest.mark.parametrize(
    "route",
    ["/", "/experiments", "/experiments/x", "/experiments/x/users/u", "/experiments/x/events?after=0",
     "/experiments/x/report?format=md"],
)  # fmt: skip
def test_so_it_is_where_nothing_is_changed(steady: Service, route: str) -> None:
    assert steady.http.get(route).status_code == 200

    document = is_problem(steady.http.get(f"{route}{'&' if '?' in route else '?'}formt=md"), 422)

    assert "formt" in document["detail"]
    assert steady.http.get("/healthz?at=1").status_code == steady.http.get("/readyz?at=1").status_code == 200


@pytest.mark.parametrize("route", ROUTES)
def test_half_a_surrogate_pair_is_no_text(steady: Service, route: str) -> None:
    before = everything(steady.path)

    for name in ("experiment", "user_id", "key", "serve", "hypothesis"):
        body = b'{"%s": "\\ud800"}' % name.encode()
        response = send(steady, route, body)
        is_problem(response, response.status_code)
        assert response.status_code in (400, 422)  # two readers of JSON: one calls it broken, one a bad text

    assert everything(steady.path) == before


def test_each_fault_of_a_body_is_named_with_the_nearest_field(steady: Service) -> None:
    body = {"experiment": 1, "usr_id": "u", "request_id": "r", "metric": {}}

    errors = {e["field"]: e["message"] for e in is_problem(steady.http.post("/reward", json=body), 422)["errors"]}

    assert errors.keys() == {"experiment", "user_id", "usr_id", "metric"}
    assert errors["user_id"] == "missing"
    assert "did you mean 'user_id'?" in errors["usr_id"]
    assert "did you mean 'metrics'?" in errors["metric"]


def test_a_hot_body_has_a_smaller_limit_also_without_a_length(steady: Service) -> None:
    big = json.dumps({**CHOOSE, "attributes": {"a": "x" * 65_536}}).encode()

    is_problem(steady.http.post("/choose", content=big, headers=JSON), 413)
    is_problem(steady.http.post("/choose", content=iter([big[:40_000], big[40_000:]]), headers=JSON), 413)
    pieces = steady.http.post("/choose", content=iter([b'{"experiment":', b'"x","user_id":"known"}']), headers=JSON)
    assert pieces.status_code == 200


def test_a_batch_has_a_larger_limit_but_not_its_items(steady: Service) -> None:
    large, small = {**GOOD["/choose"], "attributes": {"a": "x" * 65_536}}, GOOD["/choose"]
    filled = {**GOOD["/choose"], "attributes": {"a": "x" * 60_000}}

    items = steady.http.post("/choose/batch", json={"items": [small, large, *[filled] * 14]}).json()["items"]

    assert [item["status"] for item in items] == [200, 413, *[200] * 14]
    assert items[1] == is_problem(steady.http.post("/choose", json=large), 413)
    is_problem(steady.http.post("/choose/batch", json={"items": [filled] * 17}), 413)


def test_of_a_key_that_comes_twice_the_last_value_counts(steady: Service) -> None:
    twice = b'{"experiment": "y", "experiment": "x", "user_id": "known"}'

    assert steady.http.post("/choose", content=twice, headers=JSON).json()["reason"] == "sticky"
    batch = steady.http.post("/choose/batch", content=b'{"items": [1], "items": [%b]}' % twice, headers=JSON)
    assert batch.json()["items"][0]["reason"] == "sticky"


def test_true_is_a_value_of_a_binary_metric_alone(steady: Service) -> None:
    told = {**GOOD["/reward"], "metrics": {"resolved": True}}

    assert steady.http.post("/reward", json=told).json()["duplicate"] == ["resolved"]  # true is 1
    for metric in ("latency_ms", "cost_usd"):
        refused = is_problem(steady.http.post("/reward", json={**told, "metrics": {metric: True}}), 422)
        assert refused["errors"][0]["field"] == f"metrics.{metric}"


def test_a_web_socket_is_not_opened(steady: Service) -> None:
    address = steady.http.base_url
    for path in ("/", "/choose"):
        with socket.create_connection((address.host, address.port or 80), timeout=5) as raw:
            raw.sendall(
                b"GET %b HTTP/1.1\r\nHost: evil.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" % path.encode()
            )
            answer = raw.recv(4096)
        assert answer.startswith((b"HTTP/1.1 403", b"HTTP/1.1 404"))


def test_paths_and_methods_that_do_not_exist(steady: Service) -> None:
    for path in ("/nothing", "/choose/", "/experiments/", "/experiments/x/begin"):
        is_problem(steady.http.get(path), 404)
    for method, path in (
        ("GET", "/choose"),
        ("PUT", "/reward"),
        ("DELETE", "/experiments"),
        ("GET", "/experiments/x/stop"),
    ):
        is_problem(steady.http.request(method, path), 405)
    for path in ("/experiments/y", "/experiments/y/report", "/experiments/%00", "/experiments/%ff%fe/report"):
        is_problem(steady.http.get(path), 404)
    for action in ("start", "pause", "stop"):
        is_problem(steady.move("y", action), 404)
    is_problem(steady.http.get("/experiments/x/report?format=pdf"), 422)
    is_problem(steady.http.get("/experiments/x/report?fromat=md"), 422)
    is_problem(steady.http.get("/experiments/x/users/%00"), 422)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:80", "LOCALHOST:1", "[::1]:8000", "127.8.9.1"])
def test_this_machine_has_several_names(steady: Service, host: str) -> None:
    assert steady.http.get("/healthz", headers={"Host": host}).status_code == 200
    assert steady.http.get("/healthz", headers={"Host": host, "Origin": f"http://{host}"}).status_code == 200


@pytest.mark.parametrize(
    "host", ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "[::1", "10.0.0.1"]
)
def test_a_foreign_host_is_refused_on_every_route(steady: Service, host: str) -> None:
    for path in ("/", "/healthz", "/docs", "/openapi.json", "/experiments/x/report"):
        is_problem(steady.http.get(path, headers={"Host": host}), 403)


def test_a_page_of_another_origin_is_refused_on_every_route(steady: Service) -> None:
    for origin in ("http://evil.example", "null", "http://localhost:1", "", "https://127.0.0.1", "file://"):
        is_problem(steady.http.get("/experiments", headers={"Origin": origin}), 403)
        is_problem(steady.http.post("/experiments/x/pause", headers={"Origin": origin}), 403)


def test_ids_are_compared_as_bytes(steady: Service) -> None:
    steady.create("ids")
    names = [
        "é",
        "e\u0301",
        "E",
        "e",
        " e",
        "e ",
        "😀",
        "1",
        "1.0",
        "01",
        "%00",
        "a\\b",
        "\u200b",
        "'; DROP TABLE x;--",
    ]

    answers = [steady.choose("ids", name) for name in names]

    assert all(answer["reason"] == "new" for answer in answers)
    assert [answer["user_id"] for answer in answers] == names
    assert all(steady.choose("ids", name)["reason"] == "sticky" for name in names)
    for key in ("zero\u200bwidth", "no\xa0break", "50% ü?#&", "😀"):
        steady.create(key)
        assert steady.choose(key, "u")["experiment"] == key
        assert steady.get(f"/experiments/{quote(key, safe='')}")["key"] == key


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("x") | st.just("known"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
NAMES = sorted(
    {name for body in ROUTES.values() for name in body} | {"failed", "replace", "variant", "attributes", "now"}
)


@settings(max_examples=150)
@given(route=st.sampled_from(list(ROUTES)), content=st.data())
def test_no_body_whatsoever_makes_the_server_fail(steady: Service, route: str, content: st.DataObject) -> None:
    changes = content.draw(st.dictionaries(st.sampled_from(NAMES), ANYTHING, min_size=1, max_size=3))
    text = json.dumps({**ROUTES[route], **changes}).encode()
    body = content.draw(st.sampled_from([text, text[:-1]]) | st.binary(max_size=30))

    response = send(steady, route, body)

    if response.status_code not in (200, 201):
        is_problem(response, response.status_code)
    assert response.status_code < 500
    if route.endswith("/batch") and response.status_code == 200:
        assert all(item["status"] < 500 for item in response.json()["items"])


@settings(max_examples=150)
@given(route=st.sampled_from(list(GOOD)), content=st.data())
def test_an_item_is_answered_like_the_same_call_alone(steady: Service, route: str, content: st.DataObject) -> None:
    changes = content.draw(st.dictionaries(st.sampled_from(NAMES), ANYTHING, min_size=1, max_size=3))
    body = json.dumps({**ROUTES[route], **changes}).encode()

    alone, batch = send(steady, route, body), send(steady, f"{route}/batch", between_good_ones(route, body))

    assert outcome(batch) == outcome(alone)


def test_a_fault_of_ours_is_a_problem_without_our_insides(
    steady: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("our insides")

    monkeypatch.setattr(reading, "listing", broken)
    monkeypatch.setattr(View, "known", broken)

    for response in (steady.http.get("/experiments"), steady.http.post("/choose", json=CHOOSE)):
        assert "insides" not in is_problem(response, 500)["detail"]
    assert "our insides" in caplog.text


def test_two_hosts_are_one_too_many(steady: Service) -> None:
    address = steady.http.base_url
    with socket.create_connection((address.host, address.port or 80), timeout=5) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: raw.recv(4096), b""))

    assert answer.startswith(b"HTTP/1.1 400")
