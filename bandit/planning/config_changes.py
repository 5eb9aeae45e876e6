"""In what a variant's config differs from control's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bandit.experiment import Experiment


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """One key with different values.

    Attributes:
        path: The key; those of nested objects with dots between them.
        control: Control's value as JSON; None: control has no such key.
        variant: The variant's value as JSON; None: the variant has no such key.
    """

    path: str
    control: str | None
    variant: str | None


def config_changes(experiment: Experiment, arm: int) -> tuple[ConfigChange, ...]:
    """Return the keys in which an arm's config differs from control's, in the order of the file.

    Objects are compared key by key, anything else as a whole. Numbers are compared by value: 1 is 1.0.

    Args:
        experiment: Gives the configs.
        arm: Index of the arm.
    """
    control = experiment.variants[experiment.control].config
    return tuple(_changes(control, experiment.variants[arm].config, ()))


def _changes(
    before: Mapping[str, object], after: Mapping[str, object], above: tuple[str, ...]
) -> Iterator[ConfigChange]:
    for key in dict.fromkeys((*before, *after)):
        old, new = before.get(key), after.get(key)
        path = (*above, key)
        if key in before and key in after and isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _changes(old, new, path)
        elif not (key in before and key in after and _same(old, new)):
            yield ConfigChange(
                ".".join(path), _json(old) if key in before else None, _json(new) if key in after else None
            )


def _same(old: object, new: object) -> bool:
    """Whether two JSON values are equal; true and 1 are not."""
    if isinstance(old, int | float) and isinstance(new, int | float):
        return isinstance(old, bool) == isinstance(new, bool) and old == new
    return _json(old) == _json(new)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
