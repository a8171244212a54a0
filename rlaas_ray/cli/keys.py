"""`rlaas keys`: API keys. The secret is printed once, on stdout, and kept nowhere."""

from __future__ import annotations

import click

from rlaas_ray.cli import output, server

_ROLES = ["viewer", "decider", "operator", "approver", "admin"]


@click.group()
def keys() -> None:
    """API keys: create, list, revoke."""


@keys.command()
@click.option("--role", "roles", type=click.Choice(_ROLES), multiple=True, required=True)
@click.option("--note", help="Whose it is, what for.")
@output.json_option
def create(*, roles: tuple[str, ...], note: str | None, as_json: bool) -> None:
    """Make a key; its secret is shown now and never again."""
    with server.client() as client:
        made = client.keys.create(roles=roles, note=note)
    if as_json:
        output.document(made)
    else:
        output.facts(made)
        output.say("Keep it now: only its hash is stored.")


@keys.command("list")
@output.json_option
def listed(*, as_json: bool) -> None:
    """Keys without their secrets."""
    with server.client() as client:
        items = client.keys.list(limit=None)
    if as_json:
        output.document({"items": items})
    else:
        columns = {"id": "id", "prefix": "prefix", "roles": "roles", "note": "note", "created": "created_us"}
        output.table(items, {**columns, "revoked": "revoked_us"})


@keys.command()
@click.argument("key_id", metavar="ID")
@output.json_option
def revoke(*, key_id: str, as_json: bool) -> None:
    """End a key; it is refused everywhere within 10 s."""
    with server.client() as client:
        client.keys.revoke(key_id)
    if as_json:
        output.document({"id": key_id, "revoked": True})
    else:
        click.echo(f"{key_id} revoked")
