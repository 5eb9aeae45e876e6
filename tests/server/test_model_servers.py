"""The settings file of model servers: what it may say, and that no message of a fault shows a key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from server.model_servers import (
    PLACEHOLDER,
    InvalidModelServers,
    ModelPrice,
    ModelServer,
    Prices,
    UnknownKey,
    parse_model_servers,
    read_model_servers,
)

WHOLE = """
[servers.local]
base_url = "http://127.0.0.1:11434/v1"
key_env = "OLLAMA_API_KEY"
json_schema = false
max_tokens_field = "max_completion_tokens"
moderation = "chat"
timeout = 60

[prices]
version = "2026-11"

[prices.models."llama-3.3-70b"]
prompt = 0.6
completion = 0.8
"""


def faults(text: str) -> dict[str, str]:
    with pytest.raises(InvalidModelServers) as caught:
        parse_model_servers(text)
    assert caught.value.__cause__ is None
    return {problem.field: problem.message for problem in caught.value.problems}


def server(line: str) -> str:
    return f'[servers.local]\nbase_url = "http://127.0.0.1:1/v1"\n{line}\n'


def test_every_setting_is_read() -> None:
    settings = parse_model_servers(WHOLE)

    assert settings.servers == {
        "local": ModelServer(
            base_url="http://127.0.0.1:11434/v1",
            key_env="OLLAMA_API_KEY",
            json_schema=False,
            max_tokens_field="max_completion_tokens",
            moderation="chat",
            timeout=60.0,
        )
    }
    assert settings.prices == Prices(
        version="2026-11", models={"llama-3.3-70b": ModelPrice(prompt=0.6, completion=0.8)}
    )


def test_a_base_url_is_enough() -> None:
    settings = parse_model_servers('[servers.a]\nbase_url = "https://models.example/v1/"')

    assert settings.prices is None
    assert settings.servers["a"].model_dump() == {
        "base_url": "https://models.example/v1/",
        "key_env": None,
        "json_schema": True,
        "max_tokens_field": "max_tokens",
        "moderation": "none",
        "timeout": 60.0,
    }


def test_settings_do_not_change() -> None:
    settings = parse_model_servers(WHOLE)

    with pytest.raises(ValidationError):
        settings.servers["local"].timeout = 5.0  # type: ignore[misc]  # it is frozen, which is what is tested


@pytest.mark.parametrize(
    ("line", "field", "says"),
    [
        ("timeout = 0", "timeout", "received 0.0, allowed: a number of seconds above 0 and at most 3600"),
        ("timeout = -1", "timeout", "received -1.0, allowed: a number of seconds above 0"),
        ("timeout = nan", "timeout", "received nan, allowed: a finite number"),
        ("timeout = inf", "timeout", "received inf, allowed: a finite number"),
        ("timeout = 3601", "timeout", "at most 3600"),
        ("timeout = true", "timeout", "received True, allowed: a number"),
        ('timeout = "60"', "timeout", "received '60', allowed: a number"),
        ("json_schema = 1", "json_schema", "received 1, allowed: true or false"),
        ('max_tokens_field = "n"', "max_tokens_field", "received 'n', allowed: 'max_tokens', 'max_completion_tokens'"),
        ('moderation = "on"', "moderation", "received 'on', allowed: 'none', 'endpoint', 'chat'"),
        ('keyenv = "A"', "keyenv", "unknown key; did you mean 'key_env'?"),
        ('api_key = "sk-secret"', "api_key", "unknown key;"),
        ('key_env = "sk-secret"', "key_env", "not shown"),
        ('key_env = "gsk_secret"', "key_env", "not shown"),
        ('key_env = ["sk-secret"]', "key_env", "not shown"),
        ('key_env = ""', "key_env", "allowed: the name of the environment variable"),
    ],
)
def test_a_fault_names_its_field_and_what_is_allowed(line: str, field: str, says: str) -> None:
    found = faults(server(line))

    assert list(found) == [f"servers.local.{field}"]
    assert says in found[f"servers.local.{field}"]
    assert "secret" not in str(found)


@pytest.mark.parametrize(
    "url",
    [
        "", "127.0.0.1:1", "ftp://h/v1", "file:///etc/passwd", "http://", "http://:80/", "http://h:x/", "http://h:99999/",
        "http://h:0/", "http://[::1/", "http://h/v1?key=1", "http://h/#a", "http://h/a b", "http://h/\\n", "http://hö/",
        "http:\\\\\\\\h",
    ],
)  # fmt: skip
def test_a_base_url_is_one_of_http(url: str) -> None:
    found = faults(f'[servers.a]\nbase_url = "{url}"')

    assert "allowed: an http or https URL" in found["servers.a.base_url"]


@pytest.mark.parametrize("url", ["http://[::1]:8080/v1", "HTTPS://h", "http://h:80/a/b/"])
def test_a_base_url_may_have_any_host_and_path(url: str) -> None:
    assert parse_model_servers(f'[servers.a]\nbase_url = "{url}"').servers["a"].base_url == url


def test_a_password_in_a_url_is_refused_and_not_shown() -> None:
    found = faults('[servers.a]\nbase_url = "https://me:secret@h/v1"')

    assert "a user name or a password in it (not shown)" in found["servers.a.base_url"]
    assert "secret" not in str(found)


@pytest.mark.parametrize("price", ["nan", "inf", "-inf", "-0.1", "1000001", '"1"', "true"])
@pytest.mark.parametrize("which", ["prompt", "completion"])
def test_a_price_is_finite_and_not_negative(price: str, which: str) -> None:
    other = {"prompt": "completion", "completion": "prompt"}[which]

    found = faults(server(f'[prices]\nversion = "1"\n[prices.models.m]\n{which} = {price}\n{other} = 1'))

    assert list(found) == [f"prices.models.m.{which}"]
    assert "allowed: " in found[f"prices.models.m.{which}"]


def test_a_model_with_a_dot_needs_quotes_and_the_message_says_so() -> None:
    found = faults(server('[prices]\nversion = "1"\n[prices.models.llama-3.3]\nprompt = 1\ncompletion = 1'))

    assert "needs quotes" in found["prices.models.llama-3.3"]


def test_all_faults_are_named_at_once() -> None:
    found = faults('x = 1\n[servers.a]\n[prices]\nversion = ""\nversio = 1\n[prices.models.m]\nprompt = 1')

    assert list(found) == [
        "servers.a.base_url", "prices.version", "prices.models.m.completion", "prices.versio", "x",
    ]  # fmt: skip
    assert "did you mean 'version'?" in found["prices.versio"]
    assert found["prices.models.m.completion"] == "missing; US dollars per million tokens"


@pytest.mark.parametrize(
    ("text", "field", "says"),
    [
        ("", "", "received an empty text, allowed: the settings of model servers in TOML"),
        ("servers", "", "not TOML"),
        ("[servers]", "servers", "at least one table [servers.NAME]"),
        ('[prices]\nversion = "1"', "servers", "missing; at least one table [servers.NAME]"),
        ("servers = 3", "servers", "received 3, allowed: a table"),
        ('[servers.""]\nbase_url = "http://h"', "servers", "received ''"),
        ("a\0b", "", "NUL"),
    ],
)
def test_what_is_no_settings_file_is_refused(text: str, field: str, says: str) -> None:
    assert says in faults(text)[field]


def test_a_file_is_read_or_named_in_the_fault(tmp_path: Path) -> None:
    good, binary, none = tmp_path / "good.toml", tmp_path / "binary.toml", tmp_path / "none.toml"
    good.write_text(WHOLE)
    binary.write_bytes(b"\xff")

    assert read_model_servers(good) == parse_model_servers(WHOLE)
    with pytest.raises(InvalidModelServers, match=r"binary\.toml: received bytes that are not UTF-8 \(at byte 0\)"):
        read_model_servers(binary)
    with pytest.raises(InvalidModelServers, match=r"none\.toml: cannot be read: No such file"):
        read_model_servers(none)


def test_the_key_is_read_from_the_environment_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLLAMA_API_KEY", raising=False)
    settings = parse_model_servers(WHOLE).servers["local"]

    with pytest.raises(UnknownKey, match="environment variable OLLAMA_API_KEY is not set"):
        settings.key()
    monkeypatch.setenv("OLLAMA_API_KEY", "sk-1")
    assert settings.key() == "sk-1"
    assert settings.key({"OLLAMA_API_KEY": "sk-2"}) == "sk-2"
    assert "sk-1" not in repr(settings)


def test_a_server_without_a_key_gets_a_placeholder() -> None:
    assert ModelServer(base_url="http://h").key({}) == PLACEHOLDER


@pytest.mark.parametrize(
    "key", ["", "sk-secret\n", " sk-secret", "sk secret", "sk-secrét", "sk-secret\0", "\ud800secret"]
)
def test_a_key_that_no_header_can_carry_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(UnknownKey, match="OLLAMA_API_KEY") as caught:
        parse_model_servers(WHOLE).servers["local"].key({"OLLAMA_API_KEY": key})

    assert "secr" not in str(caught.value)


def test_a_cost_is_dollars_per_million_tokens() -> None:
    prices = parse_model_servers(WHOLE).prices
    assert prices is not None

    assert prices.cost("llama-3.3-70b", 1_000_000, 0) == 0.6
    assert prices.cost("llama-3.3-70b", 0, 500_000) == 0.4
    assert prices.cost("llama-3.3-70b", 120, 30) == pytest.approx(96e-6, rel=1e-12)
    assert prices.cost("llama-3.3-70b", 0, 0) == 0.0
    assert prices.cost("llama", 1, 1) is None


def test_a_model_may_be_free() -> None:
    prices = Prices(version="1", models={"own": ModelPrice(prompt=0, completion=0)})

    assert prices.cost("own", 10, 10) == 0.0


@given(text=st.text())
def test_text_that_is_no_settings_file_is_refused_in_words(text: str) -> None:
    assert all(faults(text).values())
