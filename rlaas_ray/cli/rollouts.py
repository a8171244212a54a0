"""`rlaas rollout`: bring a challenger in by stages; the evidence promotes it or takes it back.

`start --wait` and `watch` end with exit 0 for a promotion and 3 for a gate that said no.
"""

from __future__ import annotations

from typing import Any

import click

from rlaas_ray.cli import following, output, server
from rlaas_ray.errors import InvalidInput
from rlaas_ray.sdk.handles import Rollout
from rlaas_ray.specs.rollout import RolloutSpec


@click.group()
def rollout() -> None:
    """Rollouts: start, show, promote, abort, watch."""


@rollout.command()
@click.argument("endpoint")
@click.argument("policy", required=False)
@click.option("--spec", help="YAML or JSON file with the fields of a RolloutSpec.")
@click.option("--share", metavar="PERCENT", help="One stage of so many percent, e.g. 10%.")
@click.option("--stages", metavar="P,P,...", help="Stages in percent, e.g. 5,25,50.")
@click.option("--shadow", is_flag=True, help="First let it decide unseen.")
@click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="Any field, e.g. margin=0.05.")
@click.option("--wait", is_flag=True, help="Stay until the verdict.")
@output.json_option
def start(
    *,
    endpoint: str,
    policy: str | None,
    spec: str | None,
    sets: tuple[str, ...],
    wait: bool,
    as_json: bool,
    **told: Any,
) -> int:
    """Begin a rollout with POLICY as the challenger."""
    share, stages, shadow = told["share"], told["stages"], told["shadow"]
    if share and stages:
        raise InvalidInput("--share and --stages", expected="one of them")
    given = {"challenger": policy, "stages": _percents(share or stages), "shadow": shadow or None}
    body = following.spec_of(spec, sets=sets, given=given) | {"endpoint": endpoint}
    if "challenger" not in body:
        raise InvalidInput("no POLICY given", expected="POLICY, or `challenger` in --spec")
    checked = following.checked(RolloutSpec, body)
    with server.client() as client:
        point = client.endpoints.get(endpoint)
        checked.pop("endpoint")
        made = point.rollout(checked.pop("challenger"), **checked)
        output.say(f"rollout {made.id}")
        return _watched(made, as_json=as_json) if wait else _printed(made.document, as_json=as_json)


@rollout.command()
@click.argument("endpoint")
@click.argument("rollout_id", metavar="[ID]", required=False)
@click.option("--evidence", is_flag=True, help="The evidence of each tick instead of the document.")
@output.json_option
def show(*, endpoint: str, rollout_id: str | None, evidence: bool, as_json: bool) -> None:
    """A rollout; without an ID the newest of the endpoint."""
    with server.client() as client:
        found = client.rollouts.get(endpoint, rollout_id)
        if evidence:
            output.document({"items": found.evidence()})
            return
    if as_json:
        output.document(found.document)
    else:
        output.facts(found.document)


@rollout.command()
@click.argument("endpoint")
@click.argument("rollout_id", metavar="[ID]", required=False)
@output.json_option
def watch(*, endpoint: str, rollout_id: str | None, as_json: bool) -> int:
    """Follow a rollout to its verdict; Ctrl-C stops watching, not the rollout."""
    with server.client() as client:
        return _watched(client.rollouts.get(endpoint, rollout_id), as_json=as_json)


@rollout.command()
@click.argument("endpoint")
@click.argument("rollout_id", metavar="[ID]", required=False)
@click.option("--reason", help="Written to the audit log.")
@output.json_option
def promote(*, endpoint: str, rollout_id: str | None, reason: str | None, as_json: bool) -> int:
    """Make the challenger champion now, against or before the evidence."""
    with server.client() as client:
        return _printed(client.rollouts.get(endpoint, rollout_id).promote(reason=reason), as_json=as_json)


@rollout.command()
@click.argument("endpoint")
@click.argument("rollout_id", metavar="[ID]", required=False)
@click.option("--reason", help="Written to the audit log.")
@output.json_option
def abort(*, endpoint: str, rollout_id: str | None, reason: str | None, as_json: bool) -> int:
    """Give all traffic back to the champion."""
    with server.client() as client:
        return _printed(client.rollouts.get(endpoint, rollout_id).abort(reason=reason), as_json=as_json)


def _watched(found: Rollout, *, as_json: bool) -> int:
    document = found.document
    for document in found:
        output.say(_line(document))
    code = _printed(document, as_json=as_json)
    return code if document["state"] == "promoted" else 3


def _printed(document: dict[str, Any], *, as_json: bool) -> int:
    if as_json:
        output.document(document)
    else:
        click.echo(_line(document))
    return 0


def _line(document: dict[str, Any]) -> str:
    words = f"{document['id']}  {document['state']}"
    if document["state"] in {"ramping", "holding"}:
        words += f"  {document.get('share_percent', 0):g}%"
    verdict = document.get("verdict") or {}
    return f"{words}  {verdict['reason']}" if verdict else words


def _percents(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part.strip().removesuffix("%")) for part in text.split(",")]
    except ValueError:
        raise InvalidInput("--share or --stages", given=text, expected="percents, e.g. 5,25,50") from None
