"""What is asked: an experiment with its variants, goal, guardrails and policy; frozen, valid from birth.

The one schema of the experiment file, of the service and of the simulator. Building a model in
Python raises `pydantic.ValidationError`, the functions that parse raise `InvalidExperiment`; both
name all faults. A rule over several parts is checked once each of these parts is right by itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from bandit import experiment_rules as rules
from bandit.durations import seconds
from bandit.errors import InvalidExperiment, Problem, UnknownVariant
from bandit.experiment_judges import Feed, Judge, judge_problems
from bandit.experiment_parts import (
    Analysis,
    Goal,
    Guardrail,
    Id,
    Key,
    Listed,
    Part,
    PolicySettings,
    Rewards,
    Rollout,
    Variant,
    must,
)
from bandit.experiment_problems import problems
from bandit.experiment_text import read_json, read_toml
from bandit.ids import check_id, check_key
from bandit.json_values import json_object
from bandit.wording import listed, received

__all__ = [
    "Analysis",
    "Experiment",
    "Goal",
    "Guardrail",
    "Judge",
    "PolicySettings",
    "Rewards",
    "Rollout",
    "Variant",
    "check_id",
    "check_key",
    "notes",
    "parse",
    "parse_json",
    "parse_toml",
]


def _is_short_text(text: str) -> bool:
    return len(text) <= 2000 and not any("\ud800" <= character <= "\udfff" for character in text)


class Experiment(Part):
    """A question with arms, one goal metric, guardrails, a policy and a salt.

    Attributes:
        key: Its name, an id that can stand in a URL.
        hypothesis: What is expected and why, at most 2,000 characters.
        salt: Seed of the assignment, an id; None until somebody sets one (`with_salt`).
        variants: 2 to 50 options, one of them control; their order is that of the arms everywhere.
        goal: What is to improve.
        guardrails: At most 20 limits.
        policy: How traffic moves.
        rollout: Who is in.
        rewards: Which rewards count.
        analysis: When numbers are final.
        judges: At most 10 models that score interactions.
    """

    key: Key = Field(description="the name of the experiment")
    hypothesis: Annotated[str, must(_is_short_text, "at most 2000 characters, no lone surrogates")] = ""
    salt: Id | None = None
    variants: Annotated[tuple[Variant, ...], Listed] = Field(
        description="2 to 50 [[variants]], one with control = true"
    )
    goal: Goal = Field(description="the [goal] table: metric and kind of what is to improve")
    guardrails: Annotated[tuple[Guardrail, ...], Listed] = ()
    policy: PolicySettings = PolicySettings()
    rollout: Rollout = Rollout()
    rewards: Rewards = Rewards()
    analysis: Analysis = Analysis()
    judges: Annotated[tuple[Judge, ...], Listed] = ()

    @field_validator("variants")
    @classmethod
    def _variants_are_arms(cls, variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
        _refuse_any(rules.variant_problems(variants))
        return variants

    @field_validator("guardrails")
    @classmethod
    def _guardrails_agree(cls, guardrails: tuple[Guardrail, ...], info: ValidationInfo) -> tuple[Guardrail, ...]:
        _refuse_any(rules.guardrail_problems(guardrails, info.data.get("goal")))
        return guardrails

    @field_validator("policy")
    @classmethod
    def _policy_fits_arms(cls, policy: PolicySettings, info: ValidationInfo) -> PolicySettings:
        if "variants" in info.data:
            _refuse_any(rules.policy_problems(policy, info.data["variants"]))
        return policy

    @field_validator("rewards")
    @classmethod
    def _rewards_fit_goal(cls, rewards: Rewards, info: ValidationInfo) -> Rewards:
        if "goal" in info.data:
            _refuse_any(rules.reward_problems(rewards, info.data["goal"]))
        return rewards

    @field_validator("judges")
    @classmethod
    def _judges_feed_metrics(cls, judges: tuple[Judge, ...], info: ValidationInfo) -> tuple[Judge, ...]:
        if "goal" in info.data and "guardrails" in info.data:
            _refuse_any(judge_problems(judges, info.data["goal"], info.data["guardrails"]))
        return judges

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """Keys of the variants, in the order of the file; that of every array over arms."""
        return tuple(variant.key for variant in self.variants)

    @property
    def n_arms(self) -> int:
        """Number of arms, 2 to 50."""
        return len(self.variants)

    @cached_property
    def control(self) -> int:
        """Index of control among the arms."""
        return next(index for index, variant in enumerate(self.variants) if variant.control)

    @cached_property
    def _index_of_arm(self) -> dict[str, int]:
        return {key: index for index, key in enumerate(self.arms)}

    def arm(self, key: str) -> int:
        """Index of the variant with this key.

        Raises:
            UnknownVariant: There is none.
        """
        try:
            index = self._index_of_arm.get(key)
        except TypeError:  # not hashable, so not a string
            index = None
        if index is None:
            problem = Problem("variant", f"received {received(key)}, allowed: {listed(self.arms)}")
            raise UnknownVariant([problem])
        return index

    @cached_property
    def floors(self) -> tuple[float, ...]:
        """Least share of each arm, shape (n_arms,), summing to at most 1.

        `policy.floor`, by default max(0.20/arms, min(0.02, 0.40/arms)); for control
        `policy.control_floor` if that is larger.
        """
        floor = rules.floor_of(self.policy, self.n_arms)
        control_floor = max(floor, self.policy.control_floor)
        return tuple(control_floor if variant.control else floor for variant in self.variants)

    @cached_property
    def split(self) -> tuple[float, ...]:
        """Share of each arm under the policy `fixed`, shape (n_arms,), summing to 1; equal by default."""
        if self.policy.split is None:
            return (1 / self.n_arms,) * self.n_arms
        return tuple(self.policy.split[key] for key in self.arms)

    @cached_property
    def missing(self) -> rules.Missing:
        """What a user without a goal value counts as: `worst` (the worst value), `ignore` or `zero`.

        By default `zero` for per_user = "sum", else `worst` for binary and `ignore` for numeric goals.
        """
        return rules.missing_of(self.rewards, self.goal)

    @cached_property
    def window_seconds(self) -> float | None:
        """Seconds from a user's assignment in which rewards are learned; None for `request`."""
        return None if self.rewards.window == "request" else seconds(self.rewards.window)

    @cached_property
    def max_epoch_seconds(self) -> float:
        """Seconds after which an epoch ends in any case."""
        return seconds(self.policy.max_epoch)

    @cached_property
    def half_life_seconds(self) -> float | None:
        """Seconds after which past epochs weigh half; None if the half-life is in users, or there is none."""
        half_life = self.policy.half_life
        return seconds(half_life) if isinstance(half_life, str) else None

    @cached_property
    def half_life_users(self) -> float | None:
        """Further users after which past epochs weigh half; None if the half-life is a time, or there is none."""
        half_life = self.policy.half_life
        return float(half_life) if isinstance(half_life, int) else None

    @cached_property
    def ramp_after_seconds(self) -> float:
        """Least seconds on a step of the ramp."""
        return seconds(self.rollout.ramp_after)

    @cached_property
    def request_timeout_seconds(self) -> float:
        """Seconds after which a user of `window = "request"` without a goal value is missing."""
        return seconds(self.rewards.request_timeout)

    def with_salt(self, salt: str) -> Experiment:
        """The same experiment with this salt.

        Raises:
            InvalidExperiment: The salt is not an id.
        """
        return parse({**self.to_dict(), "salt": salt})

    def with_policy(self, **changes: object) -> Experiment:
        """The same experiment with other policy settings; None sets one back to its default.

        Raises:
            InvalidExperiment: A setting is unknown or does not fit.
        """
        document = self.to_dict()
        given = self.policy.model_fields_set
        kept = {
            name: value
            for name, value in document["policy"].items()
            if name in given or name not in rules.POLICY_OF_SETTING  # a default of the old kind is nobody's wish
        }
        changed = {name: value for name, value in {**kept, **changes}.items() if value is not None}
        return parse({**document, "policy": changed})

    def to_dict(self) -> dict[str, Any]:
        """The experiment as JSON values, defaults written out, such that `parse` gives it back.

        A setting that is not in use, of another policy or of a ramp, is left out unless the experiment was given it,
        so that `notes` says the same of the copy.
        """
        document = self.model_dump(mode="json", exclude_none=True)
        for name, kind in rules.POLICY_OF_SETTING.items():
            if kind != self.policy.kind and name not in self.policy.model_fields_set:
                document["policy"].pop(name, None)
        for name in rules.RAMP_SETTINGS:
            if self.rollout.ramp is None and name not in self.rollout.model_fields_set:
                document["rollout"].pop(name)
        if not self.judges:
            document.pop("judges")
        for variant, written in zip(self.variants, document["variants"], strict=True):
            written["config"] = json_object(variant.config)  # a null in it stays
        return document

    def to_json(self) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)


_TABLES: dict[str, type[Part]] = {
    "": Experiment,
    "variants": Variant,
    "goal": Goal,
    "guardrails": Guardrail,
    "policy": PolicySettings,
    "rollout": Rollout,
    "rewards": Rewards,
    "analysis": Analysis,
    "judges": Judge,
    "judges.feeds": Feed,
}
_KEYS = {
    table: {key: field.description for key, field in model.model_fields.items()} for table, model in _TABLES.items()
}


def parse_toml(text: str) -> Experiment:
    """The experiment that a TOML text declares.

    Raises:
        InvalidExperiment: With every fault of the text.
    """
    return parse(read_toml(text))


def parse_json(text: str | bytes) -> Experiment:
    """The experiment that a JSON text declares.

    Raises:
        InvalidExperiment: With every fault of the text.
    """
    return parse(read_json(text))


def parse(obj: Mapping[str, object]) -> Experiment:
    """The experiment that a mapping of plain values declares.

    Raises:
        InvalidExperiment: With every fault of the mapping.
    """
    try:
        return Experiment.model_validate(dict(obj) if isinstance(obj, Mapping) else obj)
    except ValidationError as error:
        details = error.errors(include_url=False)
    raise InvalidExperiment(problems(details, _KEYS))


def notes(experiment: Experiment) -> tuple[str, ...]:
    """What is legal in this experiment but may not do what its author thinks, one sentence each."""
    return rules.notes(experiment)


def _refuse_any(found: list[Problem]) -> None:
    if found:
        raise InvalidExperiment(found)
