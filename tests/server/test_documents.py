"""What people and tools read: the OpenAPI document, its page, the start page, reports."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from bandit import Report
from server import answers, examples
from server.messages import (
    Batch,
    ChooseItem,
    ChooseRequest,
    ForceAnswer,
    InteractionItem,
    InteractionRequest,
    MoveAnswer,
    RewardItem,
    RewardRequest,
)
from tests.server.running import Service, command


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference inside the document."""
    found: Any = document
    for step in schema["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    assert isinstance(found, dict)
    return found


def test_the_document_has_the_hot_calls_with_the_schemas_of_their_decoders(service: Service) -> None:
    document = service.get("/openapi.json")

    for path, struct in (("/choose", ChooseRequest), ("/reward", RewardRequest)):
        call = document["paths"][path]["post"]
        body = resolved(document, call["requestBody"]["content"]["application/json"]["schema"])
        _, components = msgspec.json.schema_components([struct])
        assert body == components[struct.__name__]
        assert body["additionalProperties"] is False
        answer = resolved(document, call["responses"]["200"]["content"]["application/json"]["schema"])
        assert answer["type"] == "object"
        for status in ("400", "404", "413", "415", "422"):
            assert list(call["responses"][status]["content"]) == ["application/problem+json"]
    assert document["components"]["schemas"]["RewardRequest"]["required"] == ["experiment", "user_id", "request_id"]
    assert "metric" in document["components"]["schemas"]["Goal"]["properties"]


@pytest.mark.parametrize(
    ("route", "item"),
    [("/choose/batch", ChooseRequest), ("/reward/batch", RewardRequest), ("/interactions/batch", InteractionRequest)],
)
def test_the_document_has_the_batches_with_the_items_that_are_decoded(service: Service, route: str, item: type) -> None:
    document = service.get("/openapi.json")

    content = document["paths"][route]["post"]["requestBody"]["content"]["application/json"]
    body = resolved(document, content["schema"])
    items = body["properties"]["items"]
    _, components = msgspec.json.schema_components([item])
    assert body["required"] == list(body["properties"]) == [field.name for field in msgspec.structs.fields(Batch)]
    assert body["additionalProperties"] is False
    assert resolved(document, items["items"]) == components[item.__name__]
    for count, status in ((items["minItems"], 200), (items["maxItems"], 200), (0, 422), (items["maxItems"] + 1, 422)):
        assert service.http.post(route, json={"items": [{}] * count}).status_code == status


@pytest.mark.parametrize(
    ("route", "answer"),
    [("/choose/batch", ChooseItem), ("/reward/batch", RewardItem), ("/interactions/batch", InteractionItem)],
)
def test_the_items_of_an_answer_are_as_the_document_describes_them(service: Service, route: str, answer: type) -> None:
    service.create()
    service.choose("x", "u")
    call = {"experiment": "x", "user_id": "u", **({} if "choose" in route else {"request_id": "r", "failed": True})}

    good, bad = service.http.post(route, json={"items": [call, {}]}).json()["items"]

    document = service.get("/openapi.json")
    content = document["paths"][route]["post"]["responses"]["200"]["content"]["application/json"]
    described = resolved(document, content["schema"])["properties"]["items"]["items"]["anyOf"]
    assert described == [{"$ref": f"#/components/schemas/{name}"} for name in (answer.__name__, "Problem")]
    assert good.keys() == msgspec.to_builtins(msgspec.convert(good, answer)).keys()
    problem = resolved(document, described[1])
    assert set(problem["required"]) <= bad.keys() <= problem["properties"].keys()


def test_every_reference_of_the_document_leads_somewhere(service: Service) -> None:
    document = service.get("/openapi.json")
    text = msgspec.json.encode(document).decode()

    references = set(re.findall(r'"\$ref":"([^"]+)"', text))

    assert references
    for reference in references:
        resolved(document, {"$ref": reference})
    assert "HTTPValidationError" not in text  # our own documents answer


@pytest.mark.parametrize("page", ["/docs", "/redoc", "/"])
def test_a_page_refers_to_nothing_outside(service: Service, page: str) -> None:
    response = service.http.get(page)

    assert response.status_code == 200
    assert re.findall(r"""(?:src|href|url)\s*[=:(]\s*['"]?\s*(?:https?:)?//""", response.text) == []
    for asset in re.findall(r"""(?:src|href)="(/[^"]*)\"""", response.text):
        assert service.http.get(asset).status_code == 200, asset


def test_the_start_page_escapes_names_and_runs_no_script(service: Service) -> None:
    evil = '<script>alert("x")</script>'.replace("/", "\u2215")
    service.create(evil, goal={"metric": "<b onload='x'>", "kind": "binary"}, guardrails=[])
    service.create('"><img src=x onerror=alert(1)>')

    response = service.http.get("/")

    assert "<script" not in response.text
    assert "<img" not in response.text
    assert "<b " not in response.text
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    links = re.findall(r'href="(/experiments/[^"]*)"', response.text)
    assert len(links) == 6
    assert {service.http.get(link.replace("&amp;", "&")).status_code for link in links} == {200}


def test_the_report_is_json_for_programs_and_markdown_for_people(service: Service) -> None:
    service.create()
    service.choose("x", "u")

    report = service.get("/experiments/x/report")
    text = service.http.get("/experiments/x/report?format=md")

    assert report["schema"] == 3
    assert report["assigned"] == 1
    assert text.headers["content-type"] == "text/markdown; charset=utf-8"
    assert text.text.startswith("# x\n")
    assert service.get("/experiments/x/report", format="json") == report


def test_the_list_of_experiments(service: Service) -> None:
    service.create("one")
    service.create("two", start=False)
    service.choose("one", "u")

    listed = service.get("/experiments")["experiments"]

    assert [(e["key"], e["state"], e["users"], e["goal"]) for e in listed] == [
        ("one", "running", 1, "resolved"), ("two", "draft", 0, "resolved"),
    ]  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", listed[0]["created_at"])


def body_examples(document: dict[str, Any], path: str, method: str = "post") -> list[Any]:
    content = document["paths"][path][method]["requestBody"]["content"]["application/json"]
    return [example["value"] for example in content["examples"].values()]


def test_the_examples_work_as_they_are_against_the_demo() -> None:
    with command("--demo") as server:
        document = server.get("/openapi.json")

        for path in ("/choose", "/reward", "/interactions"):
            for body in body_examples(document, path):
                assert server.http.post(path, json=body).status_code == 200
            for body in body_examples(document, f"{path}/batch"):
                items = server.http.post(f"{path}/batch", json=body).json()["items"]
                assert [item["status"] for item in items] == [200, 200]
        told = body_examples(document, "/reward")[0]
        assert set(told["metrics"]) == {"resolved", "latency_ms"}
        (made,) = body_examples(document, "/experiments")
        assert [variant.get("control", False) for variant in made["variants"]] == [True, False]
        assert server.http.post("/experiments", json=made).status_code == 201
        for route, method in (
            ("/experiments/{key}/variants/{variant}/suspend", "post"),
            ("/experiments/{key}/variants/{variant}/resume", "post"),
            ("/experiments/{key}/forced/{user_id}", "put"),
            ("/experiments/{key}", "patch"),
            ("/experiments/{key}/start", "post"),
        ):
            called = route.format(key=examples.DEMO, variant="B", user_id="user-1")
            for body in body_examples(document, route, method):
                assert server.http.request(method, called, json=body).status_code == 200
        for action in ("start", "pause", "stop"):
            assert server.http.post(f"/experiments/{examples.DEMO}/{action}").status_code == 200
        (stop,) = body_examples(document, "/experiments/{key}/stop")
        assert server.http.post(f"/experiments/{made['key']}/stop", json=stop).json()["serve"] == "B"


@pytest.mark.parametrize(
    ("method", "route", "schema"),
    [
        ("post", "/experiments/{key}/start", MoveAnswer),
        ("post", "/experiments/{key}/pause", MoveAnswer),
        ("get", "/experiments/{key}", answers.ExperimentAnswer),
        ("get", "/experiments", answers.ExperimentsAnswer),
        ("get", "/experiments/{key}/users/{user_id}", answers.UserAnswer),
        ("get", "/experiments/{key}/report", Report),
        ("get", "/readyz", answers.ReadyAnswer),
        ("get", "/experiments/{key}/events", answers.EventsAnswer),
        ("post", "/experiments/{key}/variants/{variant}/suspend", answers.VariantAnswer),
        ("post", "/experiments/{key}/variants/{variant}/resume", answers.VariantAnswer),
        ("put", "/experiments/{key}/forced/{user_id}", ForceAnswer),
        ("delete", "/experiments/{key}/forced/{user_id}", ForceAnswer),
        ("patch", "/experiments/{key}", answers.ExperimentAnswer),
        ("post", "/experiments/{key}/stop", MoveAnswer),
    ],
)
def test_an_answer_is_as_the_document_describes_it(service: Service, method: str, route: str, schema: type) -> None:
    service.create()
    service.choose("x", "u")
    service.reward("x", "u", "r", metrics={"resolved": 1, "latency_ms": 9})

    body = {"put": {"variant": "B"}, "patch": {"exposure": 0.5}}.get(method)
    answer = service.http.request(method, route.format(key="x", user_id="u", variant="B"), json=body)

    responses = service.get("/openapi.json")["paths"][route][method]["responses"]
    reference = responses["200"]["content"]["application/json"]["schema"]["$ref"]
    assert reference == f"#/components/schemas/{schema.__name__}"
    decoded: Any = msgspec.json.decode(answer.content, type=schema, strict=True)
    if schema is not answers.ReadyAnswer:
        assert isinstance(decoded, schema)
        assert answer.json().keys() == msgspec.to_builtins(decoded).keys()


def test_every_field_of_a_report_is_described(service: Service) -> None:
    schemas = service.get("/openapi.json")["components"]["schemas"]

    reached, open_ = set(), ["Report"]
    while open_:
        name = open_.pop()
        reached.add(name)
        text = json.dumps(schemas[name])
        open_ += [found for found in re.findall(r"#/components/schemas/(\w+)", text) if found not in reached]
    assert {"Decision", "Comparison", "GuardrailState", "Checks", "Welch"} <= reached
    for name in reached:
        assert schemas[name]["description"]
        assert all(field.get("description") for field in schemas[name]["properties"].values()), name


def test_creating_answers_as_the_document_describes_it(service: Service) -> None:
    body = examples.BODIES["Experiment"]["greeting"]["value"]

    dry, stored = (service.http.post(f"/experiments{query}", json=body) for query in ("?dry_run=true", ""))

    msgspec.json.decode(dry.content, type=answers.DryRunAnswer)
    msgspec.json.decode(stored.content, type=answers.ExperimentAnswer)


def test_the_document_lists_every_reason(service: Service) -> None:
    document = service.get("/openapi.json")

    reward, choose = (document["paths"][path]["post"]["description"] for path in ("/reward", "/choose"))

    for reason in (
        "draft", "paused", "stopped", "not_enrolled", "moved", "forced", "other_variant", "failed", "unused",
    ):  # fmt: skip
        assert f"`{reason}`" in reward
    for reason in ("new", "sticky", "moved", "forced", "not_enrolled", "stopped", "fallback"):
        assert f"`{reason}`" in choose
    assert "voids the other metrics" in reward
