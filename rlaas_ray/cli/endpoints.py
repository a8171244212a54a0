"""`rlaas serve` and `rlaas endpoints`: decision points, their arms and their history."""

from __future__ import annotations

from typing import Any

import click

from rlaas_ray.cli import following, fronts, output, server
from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.endpoint import EndpointSpec


@click.command()
@click.argument("endpoint")
@click.argument("policy", required=False)
@click.option("--spec", help="YAML or JSON file with the other fields of an EndpointSpec.")
@click.option("--assign-by", type=click.Choice(["unit", "episode"]))
@click.option("--fallback", metavar="POLICY", help="Answers where the champion cannot.")
@click.option("--preference", type=fronts.weights, help="For a policy that is conditioned on weights: energy=0.3,...")
@click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="Any field; reward.low=-1 reaches into it.")
@output.json_option
def serve(
    *,
    endpoint: str,
    policy: str | None,
    spec: str | None,
    assign_by: str | None,
    fallback: str | None,
    preference: dict[str, float] | None,
    sets: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make an endpoint, or replace its champion."""
    given = {"champion": policy, "assign_by": assign_by, "fallback": fallback, "preference": preference}
    body = following.spec_of(spec, sets=sets, given=given) | {"name": endpoint}
    if "champion" not in body:
        raise InvalidInput(
            "no POLICY given", expected="POLICY, or `champion` in --spec", cure="`rlaas models list` shows names."
        )
    checked = following.checked(EndpointSpec, body)
    with server.client() as client:
        made = client.endpoints.create(checked.pop("name"), policy=checked.pop("champion"), **checked).document
    if as_json:
        output.document(made)
        return
    _told(made)
    if server.address() is None:
        output.say("It is written down; `rlaas up` starts the policy servers that answer for it.")


@click.group()
def endpoints() -> None:
    """Endpoints: list, show, history, prefer, delete."""


@endpoints.command("list")
@output.json_option
def listed(*, as_json: bool) -> None:
    """Endpoints, newest first."""
    with server.client() as client:
        items = client.endpoints.list(limit=None)
    if as_json:
        output.document({"items": items})
        return
    rows = [{**item, "champion": _champion(item)} for item in items]
    output.table(
        rows, {"name": "name", "champion": "champion", "epoch": "epoch", "pool": "table.pool", "rollout": "rollout"}
    )


@endpoints.command()
@click.argument("name")
@output.json_option
def show(*, name: str, as_json: bool) -> None:
    """An endpoint: arms, addresses, spaces, and an observation to try it with."""
    with server.client() as client:
        found = client.endpoints.get(name).document
    if as_json:
        output.document(found)
    else:
        output.facts(found)


@endpoints.command()
@click.argument("name")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@output.json_option
def history(*, name: str, limit: int, as_json: bool) -> None:
    """Its route tables, newest first: who changed what, and why."""
    with server.client() as client:
        items = client.endpoints.get(name).history(limit=limit)
    if as_json:
        output.document({"items": items})
        return
    rows = [{**item, "arms": _arms(item.get("table") or item)} for item in items]
    output.table(rows, {"epoch": "epoch", "time": "time_us", "actor": "actor", "reason": "reason", "arms": "arms"})


@endpoints.command()
@click.argument("name")
@click.argument("weights", type=fronts.weights)
@output.json_option
def prefer(*, name: str, weights: dict[str, float], as_json: bool) -> None:
    """Give the policies of an endpoint other WEIGHTS (throughput=0.7,energy=0.3), from now on."""
    with server.client() as client:
        made = client.endpoints.get(name).prefer(weights)
    if as_json:
        output.document(made)
    else:
        _told(made)


@endpoints.command()
@click.argument("name")
@output.json_option
def delete(*, name: str, as_json: bool) -> None:
    """Take an endpoint down; its decision log stays."""
    with server.client() as client:
        client.endpoints.get(name).delete()
    if as_json:
        output.document({"name": name, "deleted": True})
    else:
        click.echo(f"{name} deleted")


def _told(made: dict[str, Any]) -> None:
    click.echo(f"{made['name']}  epoch {made['epoch']}  {_arms(made['table'])}")
    weights = made.get("preference")
    if weights:
        click.echo("  prefers  " + ",".join(f"{name}={weight:.4g}" for name, weight in weights.items()))
    for kind, address in (made.get("addresses") or {}).items():
        for url in address if isinstance(address, list) else [address] if address else []:
            click.echo(f"  {kind:<8} {url}/v1/endpoints/{made['name']}/decisions")


def _champion(item: dict[str, Any]) -> str:
    return str(next((arm["version"] for arm in item["table"]["arms"] if arm["role"] == "champion"), "-"))


def _arms(table: dict[str, Any]) -> str:
    """Each arm with its share of the 10,000 buckets; the champion has what nobody else has."""
    parts = []
    for arm in table.get("arms", []):
        buckets = sum(high - low for low, high in arm["ranges"])
        share = f" {buckets / 100:g}%" if buckets else ""
        parts.append(f"{arm['role']} {arm['version']}{share}")
    return ", ".join(parts)
