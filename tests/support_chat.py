"""A worked example: a support chat with two prompts, a judge, and the report at the end.

python -m tests.support_chat                                          # with a made-up model server
python -m tests.support_chat --base-url http://127.0.0.1:11434/v1 --model llama3.2
python -m tests.support_chat --base-url … --model … --no-judge        # which prompt is answered sooner

The application below is all that is needed of one: it asks which prompt a user gets, calls its model, and logs what it
asked and got. The judge is declared with the experiment and works beside the server.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import Progress

from tests.server.fake_models import Act, Asked, FakeModels, says, scoring
from tests.server.running import Client, command

VARIANTS = """
[[variants]]
key = "A"
control = true
config = { prompt_version = "v1", prompt = "You are a support agent. Answer the question." }

[[variants]]
key = "B"
config = { prompt_version = "v2-steps", prompt = "You are a support agent. Answer in at most three numbered steps." }

[rewards]
window = "request"
request_timeout = "10m"

[analysis]
horizon_users = @users
min_days = 0
"""

SOONER = """
hypothesis = "If the prompt asks for steps, answers come sooner, because they are shorter."

[goal]
metric = "latency_ms"
kind = "numeric"
better = "lower"
cap = @max_latency
mde = 0.1
"""

BETTER = """
hypothesis = "If the prompt asks for steps, answers help more, because people can act on them."

[goal]
metric = "quality"
kind = "numeric"
range = [1, 5]
mde = 0.1

[[guardrails]]
metric = "unsafe"
kind = "binary"
max = 0.10

[[guardrails]]
metric = "latency_ms"
kind = "numeric"
quantile = 0.95
max = @max_latency

[[judges]]
key = "helpful"
server = "models"
model = "@model"
within = "5m"

[judges.feeds]
quality = "helpfulness"
unsafe = { score = "safety", below = 3 }
"""

QUESTIONS = (
    "Where is my parcel?", "How do I reset my password?", "I was charged twice.", "Can I change my delivery address?",
    "The app crashes when I log in.", "How do I return shoes?", "My voucher does not work.",
    "Please delete my account.",
)  # fmt: skip


def main(
    base_url: Annotated[str | None, typer.Option(help="An OpenAI-compatible server; default: a made-up one.")] = None,
    model: Annotated[str, typer.Option(help="The model that answers, and judges.")] = "made-up",
    key_env: Annotated[str | None, typer.Option(help="Environment variable with the server's key.")] = None,
    json_schema: Annotated[bool, typer.Option(help="Whether the server knows JSON schemas.")] = True,
    judge: Annotated[
        bool, typer.Option(help="Whether it judges: else the goal is which prompt is answered sooner.")
    ] = True,
    users: Annotated[int, typer.Option(help="Users who come.", min=1)] = 300,
    max_latency: Annotated[float, typer.Option(help="P95 of the latency that is allowed, ms.")] = 5000,
) -> None:
    """Run the loop and print the report."""
    console = Console()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="bandit-example-")))
        url = base_url or stack.enter_context(made_up_models())
        experiment, models = folder / "experiment.toml", folder / "models.toml"
        text = 'key = "support-prompt"' + (BETTER if judge else SOONER) + VARIANTS
        text = text.replace("@model", model).replace("@users", str(users))
        experiment.write_text(text.replace("@max_latency", str(max_latency)))
        key = f'key_env = "{key_env}"\n' if key_env else ""
        schemas = f"json_schema = {str(json_schema).lower()}\n"
        models.write_text(f'[servers.models]\nbase_url = "{url}"\n{schemas}{key}')
        server = stack.enter_context(
            command("--db", folder / "example.db", "--experiment", experiment, "--models", models)
        )
        headers = {"Authorization": f"Bearer {os.environ[key_env]}"} if key_env else {}
        chat = stack.enter_context(httpx.Client(base_url=url, headers=headers, timeout=120, trust_env=False))
        with Progress(console=console) as bar:
            for number in bar.track(range(users), description="users"):
                serve(server, chat, model, number)
        if judge:
            wait_for_judge(server, users)
        report = server.http.get("/experiments/support-prompt/report", params={"format": "md"})
        console.print(Markdown(report.text))
        server.stop()


def serve(bandit: Client, chat: httpx.Client, model: str, number: int) -> None:
    """What the application does for one user."""
    user, question = f"user-{number}", QUESTIONS[number % len(QUESTIONS)]
    chosen = bandit.choose("support-prompt", user)
    messages = [
        {"role": "system", "content": chosen["config"]["prompt"]},
        {"role": "user", "content": question},
    ]
    start = time.monotonic()
    try:
        answer = chat.post("/chat/completions", json={"model": model, "messages": messages, "max_tokens": 120})
        answer.raise_for_status()
        said = answer.json()
        told = {
            "model_output": said["choices"][0]["message"]["content"],
            "latency_ms": (time.monotonic() - start) * 1000.0,
            "prompt_tokens": said.get("usage", {}).get("prompt_tokens"),
            "completion_tokens": said.get("usage", {}).get("completion_tokens"),
        }
    except httpx.HTTPError:
        told = {"failed": True}  # charged to the variant, as it should be
    logged = bandit.http.post(
        "/interactions",
        json={
            "experiment": "support-prompt", "user_id": user, "request_id": chosen["request_id"],
            "variant_id": chosen["variant"], "model_name": model, "user_input": question,
            "system_prompt_version": chosen["config"]["prompt_version"], **told,
        },
    )  # fmt: skip
    logged.raise_for_status()


def wait_for_judge(bandit: Client, users: int) -> None:
    """Wait until everything is judged."""
    after, judged = 0, 0
    while judged < users:
        page = bandit.get("/experiments/support-prompt/interactions", after=str(after), limit="50")
        found: list[dict[str, Any]] = page["interactions"]
        done = [one for one in found if one["judgements"] or one["model_output"] is None]
        if found and len(done) == len(found):
            after, judged = page["next"], judged + len(found)
        else:
            time.sleep(0.5)


# A made-up model server: it answers as the prompt asks, and judges steps as more helpful.


@contextmanager
def made_up_models() -> Iterator[str]:
    """Serve models, and yield the base URL."""
    judge = scoring(helpful)

    def act(asked: Asked) -> Act:
        if asked.body.get("response_format"):
            return judge(asked)
        (prompt,) = asked.contents("system")
        (question,) = asked.contents("user")
        answer = f"Sorry to hear that. About '{question}': we look into it."
        if "steps" in prompt:
            answer = f"About '{question}':\n1. Open your orders.\n2. Choose the order.\n3. Follow the link."
        return says(answer)

    with FakeModels("openai", otherwise=act) as fake:
        yield fake.url


def helpful(question: str, answer: str) -> Mapping[str, int]:
    """Score as a judge might: steps help more, and no two questions are alike."""
    luck = random.Random(question + answer + str(time.monotonic_ns()))  # noqa: S311 - an example
    steps = "1." in answer
    return {
        "helpfulness": min(max(round(luck.gauss(3.9 if steps else 3.2, 0.8)), 1), 5),
        "clarity": 4 if steps else 3,
        "safety": 5 if luck.random() < 0.99 else 2,
    }


if __name__ == "__main__":
    typer.run(main)
