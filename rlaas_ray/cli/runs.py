"""`rlaas runs`: what runs there are, how they go, and stopping and resuming them."""

from __future__ import annotations

from pathlib import Path

import click

from rlaas_ray.cli import bars, following, output, searches, server
from rlaas_ray.errors import NotFound
from rlaas_ray.sdk.handles import Search


@click.group()
def runs() -> None:
    """Runs: list, show, watch, report, doctor, logs, stop, resume."""


@runs.command("list")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--kind", type=click.Choice(["train", "tune", "optimize", "evaluate"]))
@click.option("--state", type=click.Choice(["queued", "running", "stopping", "succeeded", "failed", "stopped"]))
@output.json_option
def listed(*, limit: int, kind: str | None, state: str | None, as_json: bool) -> None:
    """Runs, newest first."""
    with server.client() as client:
        items = client.runs.list(limit=limit, kind=kind, state=state)
    if as_json:
        output.document({"items": items})
        return
    columns = {"id": "id", "kind": "kind", "state": "state", "name": "name", "place": "place", "created": "created_us"}
    output.table(items, {**columns, "return": "progress.episode_return_mean", "done": "progress.fraction"})


@runs.command()
@click.argument("run_id", metavar="ID")
@output.json_option
def show(*, run_id: str, as_json: bool) -> None:
    """One run, whole."""
    with server.client() as client:
        found = client.runs.get(run_id).document
    if as_json:
        output.document(found)
    else:
        output.facts(found)


@runs.command()
@click.argument("run_id", metavar="ID")
@output.json_option
def doctor(*, run_id: str, as_json: bool) -> None:
    """What a training's numbers say is going wrong, each finding with its cure."""
    from rlaas_ray.train.doctor import review

    with server.client() as client:
        found = [finding.to_json() for finding in review(client.runs.get(run_id).metrics())]
    if as_json:
        output.document({"run": run_id, "findings": found})
    elif not found:
        click.echo("nothing to say")
    for finding in [] if as_json else found:
        click.echo(f"{finding['name']}: {finding['words']}\n  {finding['cure']}")


@runs.command()
@click.argument("run_id", metavar="ID")
@output.json_option
@output.jsonl_option
def watch(*, run_id: str, as_json: bool, as_jsonl: bool) -> None:
    """Follow a run until it ends; Ctrl-C stops watching, not the run."""
    with server.client() as client:
        run = client.runs.get(run_id)
        if as_jsonl:
            for event in run:
                output.line({"seq": event.seq, "kind": event.kind, **event.data})
            return
        with bars.bar(run, title=run_id, quiet=as_json) as bar:
            while run.refresh()["state"] not in {"succeeded", "failed", "stopped"}:
                bar.tell(run.document["progress"])
                output.pause(0.5)
            bar.tell(run.document["progress"])
    if as_json:
        output.document(run.document)
    else:
        following.summary(run.document)


@runs.command()
@click.argument("run_id", metavar="ID")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Where to write it. [beside the run]")
@output.json_option
def report(*, run_id: str, out: Path | None, as_json: bool) -> None:
    """The page of the front that a run has found, with the points chosen since; of a study the page that it has written."""
    with server.client() as client:
        run = client.runs.get(run_id)
        choices = run.choices()[::-1] if isinstance(run, Search) else []
    found = run.document
    written = (found.get("result") or {}).get("report") if found["kind"] == "tune" else None
    path = written or searches.report(found, to=out, choices=choices)
    if path is None:
        raise NotFound(
            f"run {run_id} has no report",
            given=f"{found['kind']}, {found['state']}",
            expected="a study, or a run that has found a front",
            cure=f"`rlaas runs watch {run_id}` follows it to its end.",
        )
    if as_json:
        output.document({"run": run_id, "report": str(path)})
    else:
        click.echo(path)


@runs.command()
@click.argument("run_id", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
def logs(*, run_id: str, follow: bool) -> None:
    """What a run printed."""
    with server.client() as client:
        run = client.runs.get(run_id)
        shown = 0
        while True:
            state = run.status
            lines = run.logs(tail=100_000)
            for text in lines[shown:]:
                click.echo(text)
            shown = len(lines)
            if not follow or state in {"succeeded", "failed", "stopped"}:
                return
            output.pause(1.0)


@runs.command()
@click.argument("run_id", metavar="ID")
@output.json_option
def stop(*, run_id: str, as_json: bool) -> None:
    """Ask a run to checkpoint and end."""
    with server.client() as client:
        run = client.runs.get(run_id)
        run.stop()
    if as_json:
        output.document(run.document)
    else:
        click.echo(f"{run_id}  {run.document['state']}")
        output.say(f"`rlaas runs resume {run_id}` goes on.")


@runs.command()
@click.argument("run_id", metavar="ID")
@click.option("--no-wait", is_flag=True, help="Return when the next attempt is accepted.")
@output.json_option
def resume(*, run_id: str, no_wait: bool, as_json: bool) -> None:
    """Go on from the last checkpoint, as the next attempt."""
    if server.address() is None:
        from rlaas_ray.cli import attempts

        final = attempts.resumed(run_id, quiet=as_json)
    else:
        with server.client() as client:
            run = client.runs.get(run_id)
            run.resume()
            final = run.document
            if not no_wait:
                final = following.follow(run, title=f"resume {run_id}", quiet=as_json, as_jsonl=False)
    if as_json:
        output.document(final)
    else:
        following.summary(final)
    if not no_wait:
        following.raise_unless_well(final)
