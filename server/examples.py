"""Examples of the document: they work as they are against `bandit-server --demo`, `/choose` before `/reward`.

All but labels, which need a judge, and the demo has none.
"""

from __future__ import annotations

from typing import Any

DEMO = "demo-support-prompt"

_CALL = {"experiment": DEMO, "user_id": "user-1"}

BODIES: dict[str, dict[str, dict[str, Any]]] = {
    "ChooseRequest": {
        "demo": {"summary": "A user of the demo", "value": {**_CALL, "request_id": "request-1"}},
        "anonymous": {"summary": "The server makes the ids", "value": {"experiment": DEMO}},
    },
    "RewardRequest": {
        "demo": {
            "summary": "What happened to that user",
            "value": {**_CALL, "request_id": "request-1", "metrics": {"resolved": True, "latency_ms": 840.5}},
        },
        "failed": {
            "summary": "The call failed",
            "value": {**_CALL, "request_id": "request-2", "metrics": {}, "failed": True},
        },
    },
    "InteractionRequest": {
        "demo": {
            "summary": "What that user's model was asked and answered",
            "value": {
                **_CALL,
                "request_id": "request-5",
                "model_name": "small-instruct",
                "system_prompt_version": "v2",
                "latency_ms": 912.0,
                "prompt_tokens": 184,
                "completion_tokens": 71,
                "safety_flag": False,
                "user_input": "Where is my parcel?",
                "model_output": "It left the depot this morning. You can follow it here: ...",
            },
        },
        "failed": {
            "summary": "There was no answer",
            "value": {**_CALL, "request_id": "request-6", "failed": True, "user_input": "Where is my parcel?"},
        },
    },
    "InteractionBatchRequest": {
        "demo": {
            "summary": "Two of them",
            "value": {
                "items": [
                    {**_CALL, "request_id": "request-7", "latency_ms": 840.5},
                    {**_CALL, "request_id": "request-8", "latency_ms": 1002.0},
                ]
            },
        },
    },
    "ChooseBatchRequest": {
        "demo": {
            "summary": "Two users of the demo",
            "value": {"items": [_CALL, {**_CALL, "user_id": "user-2", "request_id": "request-3"}]},
        },
    },
    "RewardBatchRequest": {
        "demo": {
            "summary": "What happened to them",
            "value": {
                "items": [
                    {**_CALL, "request_id": "request-4", "metrics": {"resolved": True}},
                    {**_CALL, "user_id": "user-2", "request_id": "request-3", "metrics": {"latency_ms": 910.0}},
                ]
            },
        },
    },
    "Experiment": {
        "greeting": {
            "summary": "Two variants, one of them control",
            "value": {
                "key": "greeting",
                "hypothesis": "A greeting by name resolves more issues.",
                "variants": [
                    {"key": "A", "control": True, "config": {"greeting": "Hello"}},
                    {"key": "B", "config": {"greeting": "Hello {name}"}},
                ],
                "goal": {"metric": "resolved", "kind": "binary"},
                "guardrails": [{"metric": "latency_ms", "kind": "numeric", "quantile": 0.95, "max": 1500}],
            },
        }
    },
    "StopRequest": {"demo": {"summary": "Everybody gets B afterwards", "value": {"serve": "B", "now": False}}},
    "ReasonRequest": {"demo": {"summary": "Why, for the events", "value": {"reason": "complaints about the answers"}}},
    "ForceRequest": {"demo": {"summary": "Try B out", "value": {"variant": "B", "reason": "acceptance test"}}},
    "VersionRequest": {
        "demo": {
            "summary": "Another prompt for B",
            "value": {"key": "B", "config": {"system_prompt_version": "v2.2"}, "reason": "a step was unclear"},
        },
    },
    "LabelsRequest": {
        "demo": {
            "summary": "One of an interaction",
            "value": {"labels": [{"number": 1, "metric": "quality", "value": 4}]},
        },
    },
    "RollbackRequest": {
        "demo": {"summary": "The version before", "value": {"reason": "answers got worse"}},
    },
    "PatchRequest": {
        "demo": {"summary": "Let half of the users in", "value": {"exposure": 0.5, "reason": "slow models today"}},
    },
}
"""By the schema of a body: named examples, the first one shown first."""

KEY: dict[str, Any] = {"demo": {"value": DEMO}}
VARIANT: dict[str, Any] = {"demo": {"value": "B"}}
USER: dict[str, Any] = {"demo": {"value": "user-1"}}
"""Examples of path parameters."""
