"""What people and tools read: the OpenAPI document, its page, the start page, reports."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from server.messages import ChooseRequest, RewardRequest
from tests.server.running import Service


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

    assert report["schema"] == 1
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
