"""The settings file of model servers: where judges are asked, with which key, and what a token costs.

A TOML file of its own, because it says where texts of users are sent:

    [servers.local]
    base_url = "http://127.0.0.1:11434/v1"   # required; http or https
    key_env = "OLLAMA_API_KEY"               # environment variable with the key; without it a placeholder is sent
    json_schema = true                       # false: the server answers 400 to response_format json_schema
    max_tokens_field = "max_tokens"          # or "max_completion_tokens"
    moderation = "none"                      # or "endpoint", or "chat": a guard model that says safe or unsafe
    timeout = 60                             # seconds for a whole answer

    [prices]                                 # US dollars per million tokens, by the model's name
    version = "2026-11"

    [prices.models."llama-3.3-70b"]
    prompt = 0.6
    completion = 0.8
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, ValidationError, field_validator

from bandit.errors import BanditError, InvalidInput, Problem
from bandit.experiment_parts import Part, must, refuse
from bandit.experiment_problems import Keys, problems
from bandit.experiment_text import read_toml
from bandit.ids import check_id
from bandit.wording import received

PLACEHOLDER = "no-key"
"""Sent as the key to a server that wants none."""

LONGEST_TIMEOUT = 3_600.0
"""Seconds that a whole answer may be given at most."""

LARGEST_PRICE = 1e6
"""US dollars per million tokens: a dollar per token, which is far more than anybody asks."""


class InvalidModelServers(InvalidInput):
    """The settings file of model servers is not right; every fault is named."""


class UnknownKey(BanditError):
    """The environment does not have the key of a model server."""


def _base_url(value: object) -> object:
    """A URL below which `/chat/completions` is; one with a password in it is refused without being shown."""
    if not isinstance(value, str):
        return value
    allowed = "an http or https URL such as http://127.0.0.1:11434/v1"
    if "@" in value:
        refuse("", f"received a URL with a user name or a password in it (not shown), allowed: {allowed}, and key_env")
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, or a half of a bracket
        usable = False
    if not usable or not value.isascii() or not value.isprintable() or any(sign in value for sign in " ?#\\"):
        refuse("", f"received {received(value)}, allowed: {allowed}, without a query or a fragment")
    return value


def _key_env(value: object) -> object:
    """A name in capital letters; what is none may be the key itself, so it is not shown."""
    if value is not None and not (isinstance(value, str) and re.fullmatch(r"[A-Z_][A-Z0-9_]{0,99}", value)):
        refuse(
            "",
            "received a value that is not shown, because it may be a key; allowed: the name of the environment"
            " variable that holds the key, in capital letters, digits and _, such as OLLAMA_API_KEY",
        )
    return value


Price = Annotated[float, must(lambda x: 0 <= x <= LARGEST_PRICE, "a number of dollars from 0 to 1000000")]
Name = Annotated[str, must(lambda text: 1 <= len(text.strip()) <= 200, "text of 1 to 200 characters")]


class ModelServer(Part):
    """A server that speaks the wire format of the Llama API or of OpenAI.

    Attributes:
        base_url: What comes before `/chat/completions`; http or https.
        key_env: Name of the environment variable with the key; None: a placeholder is sent.
        json_schema: Whether the server knows `response_format` of the type json_schema.
        max_tokens_field: What the server calls the limit of an answer's length.
        moderation: `endpoint`: it has `/moderations` as the Llama API does. `chat`: a guard model answers `safe` or
            `unsafe` and categories. `none`: neither.
        timeout: Seconds for a whole answer, above 0 and at most 3600.
    """

    base_url: Annotated[str, BeforeValidator(_base_url)]
    key_env: Annotated[str | None, BeforeValidator(_key_env)] = None
    json_schema: bool = True
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    moderation: Literal["none", "endpoint", "chat"] = "none"
    timeout: Annotated[
        float, must(lambda x: 0 < x <= LONGEST_TIMEOUT, "a number of seconds above 0 and at most 3600")
    ] = 60.0

    def key(self, environment: Mapping[str, str] | None = None) -> str:
        """Return the key to send, or the placeholder of a server that wants none.

        Args:
            environment: Variables by name; those of the process by default.

        Raises:
            UnknownKey: The variable is missing or empty, or has what no HTTP header can carry.
        """
        if self.key_env is None:
            return PLACEHOLDER
        key = (os.environ if environment is None else environment).get(self.key_env, "")
        if not key:
            msg = f"the environment variable {self.key_env} is not set; it holds the key of {self.base_url}"
            raise UnknownKey(msg)
        if not re.fullmatch(r"[!-~]+", key):
            msg = (
                f"the environment variable {self.key_env} has a key with a blank, a line break or another character"
                " that cannot be sent; allowed: printable ASCII without blanks"
            )
            raise UnknownKey(msg)
        return key


class ModelPrice(Part):
    """What a model costs.

    Attributes:
        prompt: US dollars per million tokens of prompts, 0 or more.
        completion: US dollars per million tokens of answers, 0 or more.
    """

    prompt: Price
    completion: Price


class Prices(Part):
    """A list of prices.

    Attributes:
        version: What this list is called, so that a cost says by which prices it was reckoned.
        models: Prices by the model's name.
    """

    version: Name
    models: dict[str, ModelPrice] = Field(default_factory=dict)

    def cost(self, model: str, prompt_tokens: int, completion_tokens: int) -> float | None:
        """Return what these tokens cost in US dollars; None if the model has no price.

        Args:
            model: The model's name, exactly as in the list.
            prompt_tokens: Number of tokens of prompts, 0 or more.
            completion_tokens: Number of tokens of answers, 0 or more.
        """
        price = self.models.get(model)
        if price is None:
            return None
        return (prompt_tokens * price.prompt + completion_tokens * price.completion) / 1_000_000


class ModelServers(Part):
    """A settings file.

    Attributes:
        servers: At least one server, by its name.
        prices: Prices of models, if they are given.
    """

    servers: dict[str, ModelServer]
    prices: Prices | None = None

    @field_validator("servers")
    @classmethod
    def _servers_are_named(cls, servers: dict[str, ModelServer]) -> dict[str, ModelServer]:
        if not servers:
            refuse("", "received no server, allowed: at least one table [servers.NAME]")
        for name in servers:
            check_id(name, "")
        return servers


_SERVER: Keys = dict.fromkeys(ModelServer.model_fields) | {"base_url": 'such as "http://127.0.0.1:11434/v1"'}
_PRICE: Keys = {"prompt": "US dollars per million tokens", "completion": "US dollars per million tokens"}
_PRICES: Keys = dict.fromkeys(Prices.model_fields) | {"version": 'what this list is called, such as "2026-11"'}
_TOP: Keys = dict.fromkeys(ModelServers.model_fields) | {"servers": "at least one table [servers.NAME]"}
_DOTTED = '; a name with a dot in it needs quotes, as in [prices.models."llama-3.3-70b"]'


def parse_model_servers(text: str) -> ModelServers:
    """Return the settings that a TOML text says.

    Raises:
        InvalidModelServers: The text is not TOML, or not right; every fault is named, no value that may be a key is
            shown.
    """
    try:
        document = read_toml(text, "the settings of model servers")
    except InvalidInput as error:
        raise InvalidModelServers(error.problems) from None
    try:
        return ModelServers.model_validate(document)
    except ValidationError as error:
        faults = tuple(_faults(error))
    raise InvalidModelServers(faults)


def read_model_servers(path: Path) -> ModelServers:
    """Return the settings that a file says.

    Raises:
        InvalidModelServers: The file cannot be read, or is not right.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        fault = f"cannot be read: {error.strerror or type(error).__name__}"
    except UnicodeDecodeError as error:
        fault = f"received bytes that are not UTF-8 (at byte {error.start}), allowed: UTF-8"
    else:
        return parse_model_servers(text)
    raise InvalidModelServers([Problem(str(path), fault)])


def _faults(error: ValidationError) -> Iterator[Problem]:
    """Return what is wrong in words."""
    for detail in error.errors():
        place = detail["loc"]
        in_prices = _PRICES if len(place) <= 2 else _PRICE
        dotted = place[:2] == ("prices", "models") and detail["type"] == "extra_forbidden"
        for problem in problems([dict(detail)], {"": _TOP, "servers": _SERVER, "prices": in_prices}):
            yield Problem(problem.field, problem.message + _DOTTED) if dotted else problem
