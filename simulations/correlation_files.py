"""The tables of a world file that say how metrics of a visit go together.

[[correlations]]
metrics = ["resolved", "latency_ms"]
rho = -0.3                     # of their normal scores
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import ValidationError, field_validator

from bandit.errors import Problem
from bandit.experiment_parts import Part, must, refuse
from bandit.experiment_problems import problems
from bandit.wording import listed, path, received


class CorrelationTable(Part):
    """How two metrics go together.

    Attributes:
        metrics: Two metrics that have laws.
        rho: Correlation of their normal scores, above −1 and below 1.
    """

    metrics: list[str]
    rho: Annotated[float, must(lambda x: -1.0 < x < 1.0, "a number above -1 and below 1")]

    @field_validator("metrics")
    @classmethod
    def _two(cls, metrics: list[str]) -> list[str]:
        if len(metrics) != 2 or metrics[0] == metrics[1]:
            refuse("", f"received {received(metrics)}, allowed: two different metrics")
        return metrics


_KEYS = {"": dict.fromkeys(CorrelationTable.model_fields)}


def read_correlations(given: object, laws: Mapping[str, object]) -> tuple[dict[tuple[str, str], float], list[Problem]]:
    """Return the correlations of a world by pairs of metrics, and what is wrong with their tables.

    Args:
        given: A list of tables.
        laws: The metrics that have laws.
    """
    if not isinstance(given, (list, tuple)):
        message = f"received {received(given)}, allowed: tables [[correlations]], one for each pair of metrics"
        return {}, [Problem("correlations", message)]
    found: dict[tuple[str, str], float] = {}
    faults: list[Problem] = []
    for place, each in enumerate(given):
        where: list[str | int] = ["correlations", place]
        try:
            table = CorrelationTable.model_validate(each)
        except ValidationError as error:
            those = problems(error.errors(include_url=False), _KEYS)
            faults += [Problem(path(where, problem.field), problem.message) for problem in those]
            continue
        one, other = sorted(table.metrics)
        unknown = [metric for metric in table.metrics if metric not in laws]
        if unknown:
            message = f"'{unknown[0]}' has no law here, allowed: {listed(laws)}"
            faults.append(Problem(path([*where, "metrics"]), message))
        elif (one, other) in found:
            faults.append(Problem(path([*where, "metrics"]), f"received {listed(table.metrics)} again, allowed: once"))
        else:
            found[one, other] = table.rho
    return found, faults
