"""`rlaas decide`, `rlaas reward` and `rlaas log`: one decision, its outcome, and the log of all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from rlaas_ray import settings
from rlaas_ray.cli import output, server
from rlaas_ray.errors import BadJson, InvalidInput, NotFound, RewardConflict


@click.command()
@click.argument("endpoint")
@click.option("--unit", required=True, help="Whom the decision is about; the same unit keeps its arm.")
@click.option("--observation", required=True, metavar="JSON", help="[1.0, 2.0], {...}, @FILE, or `example`.")
@click.option("--episode-id")
@click.option("--step", type=int)
@click.option("--state-token", help="Of the unit's last answer, where the policy has a memory.")
@output.json_option
def decide(
    *,
    endpoint: str,
    unit: str,
    observation: str,
    episode_id: str | None,
    step: int | None,
    state_token: str | None,
    as_json: bool,
) -> None:
    """Ask an endpoint for a decision."""
    told = None if observation == "example" else _json(observation, name="--observation")
    with server.running(needs="a decision") as client:
        found = client.endpoints.get(endpoint)
        seen = found.document["example"] if told is None else told
        more = {"episode_id": episode_id, "step": step, "state_token": state_token}
        made = found.decide(unit=unit, observation=seen, **{k: v for k, v in more.items() if v is not None}).raw
    if as_json:
        output.document(made)
    else:
        output.facts(made)


@click.command(context_settings={"ignore_unknown_options": True})  # -1.5 is a value, not an option
@click.argument("decision_id")
@click.argument("value", type=float)
@click.option("--endpoint", help="Where it was decided; found by the log of this home where it is left out.")
@click.option("--step", type=int, help="Counts the rewards of this decision.")
@click.option("--done", is_flag=True, help="The episode has ended.")
@output.json_option
def reward(
    *, decision_id: str, value: float, endpoint: str | None, step: int | None, done: bool, as_json: bool
) -> None:
    """Report the outcome of a decision."""
    with server.running(needs="a reward") as client:
        where = endpoint or _endpoint_of(decision_id, [item["name"] for item in client.endpoints.list(limit=None)])
        more: dict[str, Any] = {"step": step, "done": done or None}
        told = client.endpoints.get(where).reward(
            decision_id, value, **{k: v for k, v in more.items() if v is not None}
        )
    if told["rejected"]:
        raise RewardConflict(
            str(told["rejected"][0]["detail"]), cure="The first reward stays; a correction is a new `--step`."
        )
    if as_json:
        output.document(told)
    else:
        output.facts(told)


@click.group()
def log() -> None:
    """The decision log: export."""


@log.command()
@click.argument("endpoint")
@click.option("--to", "target", required=True, type=click.Path(dir_okay=False, path_type=Path), help="FILE.parquet")
@output.json_option
def export(*, endpoint: str, target: Path, as_json: bool) -> None:
    """Write an endpoint's decisions, with their rewards, to one Parquet file."""
    from rlaas_ray.data.decision_log import ArrowDecisionLog

    if target.suffix != ".parquet":
        raise InvalidInput("--to", given=str(target), expected="a file name that ends with .parquet")
    rows = ArrowDecisionLog(settings.read().data).export(endpoint, to=target)
    if as_json:
        output.document({"endpoint": endpoint, "path": str(target), "decisions": rows})
    else:
        click.echo(f"{target}  {rows} decisions")


def _endpoint_of(decision_id: str, names: list[str]) -> str:
    """The endpoint that a decision belongs to: the only one there is, else what the log says."""
    if len(names) == 1:
        return names[0]
    from rlaas_ray.data.decision_log import ArrowDecisionLog

    return str(ArrowDecisionLog(settings.read().data).find(decision_id)["endpoint"])


def _json(text: str, *, name: str) -> Any:
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise NotFound(f"the file of {name}", given=text, expected="a JSON file", cure=str(error)) from None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadJson(f"{name} is not JSON", given=text, expected="for example [0.1, 0.2]", cure=str(error)) from None
