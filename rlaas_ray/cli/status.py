"""`rlaas status`: what of the runtime lives, and where it answers. Works with everything dead.

Exit 0 while all lives, 1 where something that should live does not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rlaas_ray import settings
from rlaas_ray.cli import output, runtime, up
from rlaas_ray.specs.runtime import Process, Runtime


@click.command()
@output.json_option
@click.pass_context
def status(ctx: click.Context, *, as_json: bool) -> None:
    """Show what of the runtime lives, and where it answers."""
    home = settings.read().home
    found = runtime.read(home)
    told = {"state": "down", "home": str(home)} if found is None else look(home, found)
    if as_json:
        output.document(told)
    else:
        output.facts(told)
        for alarm in told.get("alarms", []):
            output.say(f"alarm: {alarm} The cause is in the policy servers' log; no judge sees these rows.")
        if told["state"] != "up":
            output.say("`rlaas up` starts what is missing.")
    ctx.exit(0 if told["state"] in {"up", "down"} else 1)


def look(home: Path, found: Runtime) -> dict[str, Any]:
    """The runtime, its processes and what answers."""
    parts = {"supervisor": _part(found.supervisor), **{name: _part(child) for name, child in found.children.items()}}
    answers = {
        "api": runtime.healthy(found.ports["api"]),
        "ray": up.ray_answers(found),
        "policies": up.pool_answers(found),
    }
    if any(part["state"] == "failed" for part in parts.values()):
        state = "failed"
    elif not any(part["alive"] for part in parts.values()):
        state = "dead"
    else:
        state = "up" if all(answers.values()) and parts["supervisor"]["alive"] else "degraded"
    return {
        "state": state,
        "home": str(home),
        "id": found.id,
        "version": found.version,
        "address": found.address,
        "dashboard": found.ray.dashboard,
        "dashboard_token": found.ray.token_path or None,  # the page asks for what is in this file
        "decisions": {
            "native": f"http://127.0.0.1:{found.ports['native']}",
            "ingress": f"http://127.0.0.1:{found.ports['ingress']}",
        },
        "answers": answers,
        "alarms": alarms(found.ports["native"]),
        "processes": parts,
    }


def alarms(port: int) -> list[str]:
    """What works on but must not stay so, by the listener at `port`: decisions and rewards that no disk took."""
    lost = runtime.counted(port, "rlaas_log_dropped_total")
    if not lost:
        return []
    return [f"{lost:.0f} rows answered without being logged since the policy servers started: is the disk full?"]


def _part(process: Process | None) -> dict[str, Any]:
    if process is None:
        return {"state": "unknown", "alive": False}
    alive = runtime.lives(process)
    state = process.state if alive or process.state == "failed" else "dead"
    told: dict[str, Any] = {"state": state, "alive": alive, "pid": process.pid, "restarts": process.restarts}
    return {**told, "last": list(process.last)} if process.last else told
