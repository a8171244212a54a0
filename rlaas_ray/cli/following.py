"""Starting a run and staying with it: the same for train, tune, optimize and evaluate.

With a server: ask it, then follow until the run ends; Ctrl-C stops the run and says how to resume. Without one: the same API
in this process, and the attempt too. Inside a Ray job that nobody announced, the run is announced here. Never polls faster
than twice a second.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from rlaas_ray.cli import bars, fronts, job, modules, output, searches, server
from rlaas_ray.errors import BadJson, Interrupted, InvalidInput, NotFound, WorkFailed
from rlaas_ray.sdk.handles import Run
from rlaas_ray.specs import document


def options(command: output.CommandT) -> output.CommandT:
    """What every command that makes a run takes."""
    command = output.jsonl_option(output.json_option(command))
    command = click.option("--attempt", type=int, hidden=True)(click.option("--run", "run_id", hidden=True)(command))
    command = click.option("--no-wait", is_flag=True, help="Return when the run is accepted.")(command)
    words = "Any field of the spec; a.b=1 reaches into it."
    return click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help=words)(command)


def command(kind: str, document_kind: type[document.Document], *, path: str | None, told: dict[str, Any]) -> int | None:
    """The whole of a command that makes a run: `told` are its options, those of `options` and fields of the spec."""
    run_id, attempt = told.pop("run_id"), told.pop("attempt")
    sets, no_wait = told.pop("sets"), told.pop("no_wait")
    as_json, as_jsonl = told.pop("as_json"), told.pop("as_jsonl")
    if run_id is not None:
        from rlaas_ray.cli import attempts

        return attempts.inside(run_id, attempt=attempt or 1)
    body = checked(document_kind, spec_of(path, sets=sets, given=told))
    for field in ("env", "algorithm", "problem", "function"):
        modules.send(str(body.get(field, "")))
    if isinstance(body.get("train"), dict):
        for field in ("env", "algorithm"):
            modules.send(str(body["train"].get(field, "")))
    network = body.get("network")
    if isinstance(network, dict):
        modules.send(str(network.get("custom", "")))
    execute(kind, body, no_wait=no_wait, as_json=as_json, as_jsonl=as_jsonl)
    return None


def spec_of(path: str | None, *, sets: tuple[str, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """The spec's JSON values: the file's, then the options that were given, then --set."""
    body: dict[str, Any] = {} if path is None else load(path)
    body |= {name: value for name, value in given.items() if value is not None}
    for pair in sets:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise InvalidInput("--set", given=pair, expected="KEY=VALUE")
        _put(body, name.split("."), value=value(text))
    return body


def load(path: str) -> dict[str, Any]:
    """A YAML or JSON file (`-`: stdin) as a mapping."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise NotFound(f"the file {path}", given=error.strerror, expected="a YAML or JSON spec") from None
    except UnicodeDecodeError as error:
        raise BadJson(f"{path} is not text", given=str(error), expected="YAML or JSON in UTF-8") from None
    try:
        body = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadJson(f"{path} is not YAML", given=" ".join(str(error).split()), cure="Mend that line.") from None
    if not isinstance(body, dict):
        raise InvalidInput(f"{path} holds no spec", given=body, expected="key: value pairs")
    return body


def checked(kind: type[document.DocumentT], body: Mapping[str, Any]) -> dict[str, Any]:
    """The body, found to be a spec of that kind; refused here, before anything is started."""
    document.parse(kind, dict(body))
    return {name: value for name, value in body.items() if name != "kind"}


def execute(kind: str, body: dict[str, Any], *, no_wait: bool, as_json: bool, as_jsonl: bool) -> None:
    """Start the run where it belongs, stay with it unless told not to, print it."""
    inside = job.unannounced()
    inner = body.get("train") if isinstance(body.get("train"), dict) else {}
    title = f"{kind} {body.get('env') or body.get('problem') or body.get('function') or (inner or {}).get('env')}"
    if server.address() is None:
        from rlaas_ray.cli import attempts

        final = attempts.in_process(kind, body, title=title, quiet=as_json or as_jsonl, as_jsonl=as_jsonl)
    elif inside is not None:
        from rlaas_ray.cli import attempts

        final = attempts.announced(kind, body, submission=inside)
    else:
        with server.client() as client:
            run = client.runs.started(kind, body)
            output.say(f"run {run.id}")
            final = run.document if no_wait else follow(run, title=title, quiet=as_json or as_jsonl, as_jsonl=as_jsonl)
    if as_json:
        output.document(final)
    elif not as_jsonl:
        summary(final)
    if kind == "optimize" and inside is None and not no_wait:
        reported(final, aloud=not as_json and not as_jsonl)
    if not no_wait:
        raise_unless_well(final)


def follow(run: Run, *, title: str, quiet: bool, as_jsonl: bool) -> dict[str, Any]:
    """Show the run's progress until it has ended; gives its document. Ctrl-C stops the run."""
    try:
        with bars.bar(run, title=title, quiet=quiet) as shown:
            if as_jsonl:
                for event in run:
                    output.line({"seq": event.seq, "kind": event.kind, **event.data})
            while run.refresh()["state"] not in {"succeeded", "failed", "stopped"}:
                shown.tell(run.document["progress"])
                output.pause(0.5)
            shown.tell(run.document["progress"])
    except KeyboardInterrupt:
        run.stop()
        output.say(f"stopping {run.id} at its next safe point; Ctrl-C again leaves it to that")
        run.ended(timeout_s=60)
        raise Interrupted(f"run {run.id} is stopped", cure=f"`rlaas runs resume {run.id}` goes on.") from None
    return run.document


def summary(final: Mapping[str, Any]) -> None:
    """A run for people."""
    click.echo(f"{final['id']}  {final['state']}")
    best = (final.get("result") or {}).get("best")
    if best:
        values = ", ".join(f"{value:.6g}" for value in best["values"])
        click.echo(f"  best  trial {best['trial']}: {values} with {_brief(best['parameters'])}")
    front = fronts.document_of(final.get("result") or {})
    if front is not None:
        fronts.table(front)
    for name, value in (final.get("result") or {}).items():
        if isinstance(value, int | float | str) or (name in {"version", "evaluation"} and isinstance(value, Mapping)):
            shown = _brief(value) if isinstance(value, Mapping) else value
            click.echo(f"  {name}  {shown:.6g}" if isinstance(shown, float) else f"  {name}  {shown}")
        elif name == "findings":
            for finding in value:
                click.echo(f"  {finding['name']}  {finding['words']}. {finding['cure']}")
        elif name == "return_ci95":
            click.echo(f"  {name}  {value[0]:.6g} to {value[1]:.6g}")


def reported(final: Mapping[str, Any], *, aloud: bool) -> None:
    """The report of a search, and where it lies: with the summary, or beside a document on stdout."""
    path = searches.report(final)
    if path is not None:
        click.echo(f"  report  {path}", err=not aloud)


def _brief(value: Mapping[str, Any]) -> str:
    if "number" in value:
        return f"{value['name']}:{value['number']}"
    plain = {name: item for name, item in value.items() if name != "front"}
    return ", ".join(
        f"{name} {item:.4g}" if isinstance(item, float) else f"{name} {item}" for name, item in plain.items()
    )[:160]


def raise_unless_well(final: Mapping[str, Any]) -> None:
    if final["state"] == "succeeded":
        return
    error = final.get("error") or {}
    silent = "somebody asked it to" if final["state"] == "stopped" else "no reason was told"
    words = error.get("detail") or error.get("reason") or silent
    cure = (
        error.get("cure")
        or f"`rlaas runs logs {final['id']}` shows its output; `rlaas runs resume {final['id']}` goes on."
    )
    raise WorkFailed(f"run {final['id']} {final['state']}: {words}", cure=cure)


def _put(body: dict[str, Any], path: list[str], *, value: Any) -> None:
    for part in path[:-1]:
        inner = body.setdefault(part, {})
        if not isinstance(inner, dict):
            raise InvalidInput(f"--set {'.'.join(path)}", given=inner, expected=f"{part} to be a mapping")
        body = inner
    body[path[-1]] = value


def value(text: str) -> Any:
    """As YAML reads it, but 3e-4 is a number, as everybody means it (YAML 1.1 wants 3.0e-4)."""
    found = yaml.safe_load(text)
    if isinstance(found, str):
        try:
            return float(found)
        except ValueError:
            return found
    return found
