"""`rlaas algorithms`: what trains, ours and users' own: a list, the options of one, whether one of yours is fit.

Runs here, without a server: an algorithm is code, and `module:Class` is the user's own.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from rlaas_ray.cli import output


@click.group()
def algorithms() -> None:
    """Algorithms: list, show, check."""


@algorithms.command("list")
@output.json_option
def listed(*, as_json: bool) -> None:
    """Names that `algorithm` of a training takes, beside module:Class; broken plugins with their error."""
    from rlaas_ray.specs.algorithms import ALGORITHMS
    from rlaas_ray.train.user import finding

    rows = [_row(name) for name in ALGORITHMS]
    for plugin in finding.plugins():
        own = {"name": plugin.name, "summary": f"{plugin.target} of {plugin.package} {plugin.version}"}
        rows.append({**own, "actions": [], "runs": _HERE, "fast": False, "offline": False, "error": plugin.error})
    if as_json:
        output.document({"items": rows})
        return
    shown = [{**row, **{key: "yes" if row[key] else None for key in ("fast", "offline")}} for row in rows]
    output.table(shown, {key: key for key in ("name", "summary", "actions", "runs", "fast", "offline")})
    for row in rows:
        if row["error"] is not None:
            output.say(f"{row['name']} cannot be used: {row['error']}")
    output.say("and module:Class of your own (docs/own-algorithm.md)")


@algorithms.command()
@click.argument("name")
@output.json_option
def show(*, name: str, as_json: bool) -> None:
    """What an algorithm takes beside the fields of every training."""
    from rlaas_ray.specs.algorithms import ALGORITHMS
    from rlaas_ray.train.user import family, finding

    if name not in ALGORITHMS:
        target = finding.target_of(name)
        kind = finding.load(target)
        family.kept(kind, target=target)
        own = {"name": name, "target": target, "kind": family.kind_of(kind), "summary": _first_line(kind.__doc__)}
        _tell({**own, "options": "free: they are its config"}, as_json=as_json)
        return
    entry = ALGORITHMS[name]
    told = {**_row(name), "about": _first_line(entry.options.__doc__)}
    rows = [
        {"option": option, "default": field.get_default(call_default_factory=True), "meaning": field.description or ""}
        for option, field in entry.options.model_fields.items()
    ]
    if as_json:
        output.document({**told, "options": rows})
        return
    output.facts({key: value for key, value in told.items() if value is not None})
    if rows:
        click.echo()
        output.table(rows, {"option": "option", "default": "default", "meaning": "meaning"})


@algorithms.command()
@click.argument("name", metavar="MODULE:CLASS|NAME")
@click.option("--env", "envs", multiple=True, metavar="ENV", help="Where to try it; may be repeated. [small envs]")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="An option: part of its config.")
@output.json_option
def check(*, name: str, envs: tuple[str, ...], sets: tuple[str, ...], as_json: bool) -> int:
    """Whether an algorithm of your own keeps the protocol; exit 3 where it is unfit."""
    from rlaas_ray.cli import following
    from rlaas_ray.errors import InvalidInput
    from rlaas_ray.specs.algorithms import ALGORITHMS
    from rlaas_ray.train import threads
    from rlaas_ray.train.user import check as checks

    if name in ALGORITHMS:
        raise InvalidInput(
            f"{name} is built in",
            given=name,
            expected="module:Class, or the name of a plugin",
            cure="The tests of the package hold it; `rlaas algorithms show` has its options.",
        )
    with threads.one():
        found = checks.check(name, envs=envs, config=following.spec_of(None, sets=sets, given={}))
    fit = checks.fit(found)
    if as_json:
        output.document({"name": name, "fit": fit, "checks": [dataclasses.asdict(finding) for finding in found]})
        return 0 if fit else 3
    for finding in found:
        verdict = "ok" if finding.passed else ("note" if finding.advice else "FAIL")
        click.echo(f"{verdict:<5} {finding.env}  {finding.name}{f': {finding.detail}' if finding.detail else ''}")
        if finding.cure and not finding.passed:
            click.echo(f"      {finding.cure}")
    click.echo(f"{name} is {'fit' if fit else 'unfit'}")
    return 0 if fit else 3


_HERE = "here"


def _row(name: str) -> dict[str, Any]:
    from rlaas_ray.specs.algorithms import ALGORITHMS
    from rlaas_ray.train import families

    entry = ALGORITHMS[name]
    built = families.built(name)
    return {
        "name": name,
        "summary": entry.summary,
        "actions": list(entry.actions),
        "runs": ("here" if entry.offline else "here, Ray") if built else "not built",
        "fast": built,
        "offline": entry.offline,
        "error": None,
    }


def _tell(told: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.document(told)
    else:
        output.facts(told)


def _first_line(text: str | None) -> str:
    return (text or "").strip().partition("\n")[0]
