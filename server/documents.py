"""What the OpenAPI document says beyond what FastAPI reads from the routes."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import msgspec
from fastapi import FastAPI

from bandit import Experiment
from bandit.inference.welch import Welch
from bandit.report import document as report
from server import answers
from server.examples import BODIES
from server.messages import ALL
from server.problems import MEDIA_TYPE, SCHEMA

_REF = "#/components/schemas/{name}"

_SAYS = {
    400: "The body is not JSON",
    403: "Foreign Host or Origin",
    404: "No such experiment, or no such variant",
    409: "In conflict with what is stored",
    413: "The body is too large",
    415: "The body is not declared as JSON",
    422: "Malformed, field by field",
    503: "The store is not available; come again",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of answers that are problem documents."""
    schema = {"$ref": _REF.format(name="Problem")}
    return {status: {"description": _SAYS[status], "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses}


RESPONSES = problems(400, 403, 413, 415, 422, 503)
"""What any route may answer."""


def body_of(name: str, *, required: bool = True) -> dict[str, Any]:
    """Return the documentation of a JSON body of a named schema, with its examples."""
    content = {"schema": {"$ref": _REF.format(name=name)}, "examples": BODIES[name]}
    return {"requestBody": {"required": required, "content": {"application/json": content}}}


def answer_of(name: str, status: int = 200, description: str = "Done") -> dict[int | str, dict[str, Any]]:
    """Return the documentation of a success with a named schema."""
    content = {"application/json": {"schema": {"$ref": _REF.format(name=name)}}}
    return {status: {"description": description, "content": content}}


def document(app: FastAPI) -> None:
    """Let the application's OpenAPI document have the schemas that the decoders themselves use."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = plain()
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            _, messages = msgspec.json.schema_components((*ALL, *answers.ALL), ref_template=_REF)
            describe(messages)
            experiment = Experiment.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(experiment.pop("$defs", {}))
            schemas.update(messages, Experiment=experiment, Problem=SCHEMA)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]


_REPORT = {name: part for name, part in vars(report).items() if dataclasses.is_dataclass(part)} | {"Welch": Welch}
_ATTRIBUTE = re.compile(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", re.MULTILINE)


def describe(schemas: dict[str, Any]) -> None:
    """Give the parts of a report the words of their docstrings, field by field."""
    for name, part in _REPORT.items():
        about, _, attributes = (part.__doc__ or "").partition("\n\n    Attributes:\n")
        schemas[name]["description"] = _line(about)
        for field, words in _ATTRIBUTE.findall(attributes):
            schemas[name]["properties"][field]["description"] = _line(words)


def _line(text: str) -> str:
    return " ".join(text.split())
