"""`rlaas audit`: who changed what, and whether the record itself was changed."""

from __future__ import annotations

from typing import Any

import click

from rlaas_ray.cli import output, server


@click.group()
def audit() -> None:
    """The audit log: verify, show."""


@audit.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@output.json_option
def show(*, limit: int, as_json: bool) -> None:
    """Rows, newest first."""
    with server.client() as client:
        items = client.pages("/api/v1/audit", limit=limit)
    if as_json:
        output.document({"items": items})
        return
    columns = {
        "seq": "seq",
        "time": "time",
        "actor": "actor",
        "action": "action",
        "object": "object",
        "result": "result",
    }
    output.table(items, columns)


@audit.command()
@output.json_option
def verify(*, as_json: bool) -> int:
    """Check chain, signatures and anchor; exit 3 names the first fault."""
    with server.client(timeout_s=300) as client:
        found: dict[str, Any] = client.get("/api/v1/audit/verify")
    if as_json:
        output.document(found)
    else:
        output.facts(found)
    return 0 if found.get("ok") else 3
