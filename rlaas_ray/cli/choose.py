"""`rlaas choose`: take a point of a search's front by a method, or between parties that want different ones.

The choice itself is `rlaas_ray.optimize`'s, behind the API; it is kept as an event of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from rlaas_ray.cli import following, output, server
from rlaas_ray.errors import InvalidInput
from rlaas_ray.sdk.handles import Search
from rlaas_ray.specs import document
from rlaas_ray.specs.choose import ChooseSpec

_NO_POINT = 3  # a gate said no: somebody's demands


@click.command()
@click.argument("run_id", metavar="RUN", required=False)
@click.option(
    "--method", help="topsis, pseudo_weights, achievement, minimax, knee. [topsis; achievement with --target]"
)
@click.option("--weights", metavar="A=1,B=2", help="How much each objective counts. [the run's]")
@click.option("--target", "targets", metavar="A=5,B=7", help="What is aspired to, in natural units.")
@click.option("--parties", metavar="FILE", help="YAML or JSON with `parties`, and `rule` if not nash.")
@click.option("--rule", help="nash, weighted, maximin, topsis, veto. [nash]")
@click.option("--sensitivity", is_flag=True, help="How far each weight may move before another point is chosen.")
@click.option("--session", type=int, metavar="SEQ", help="Measure as the earlier choice of that number did.")
@click.option("--list", "listed", is_flag=True, help="Show the choices made before, newest first.")
@output.json_option
def choose(*, run_id: str | None, listed: bool, as_json: bool, **told: Any) -> int:
    """Take a point of a front, of a search or of a policy, and say why."""
    with server.client() as client:
        run: Any = client.runs.get(run_id) if run_id else _newest(client)
        if not isinstance(run, Search):
            run = client.optimization.get(run.id)  # says what it is instead
        if listed:
            return _listed(run.choices(), as_json=as_json)
        made = run.choose(**asked(**told))
    if as_json:
        output.document(made.raw)
    else:
        _shown(made.raw)
    return 0 if made.chosen is not None else _NO_POINT


def asked(
    *,
    weights: str | None = None,
    targets: str | None = None,
    parties: str | None = None,
    sensitivity: bool,
    **more: Any,
) -> dict[str, Any]:
    """The fields of a ChooseSpec from the options, refused here where they contradict each other."""
    body: dict[str, Any] = following.load(parties) if parties else {}
    body |= {name: value for name, value in more.items() if value is not None}
    if weights:
        body["weights"] = _pairs(weights, option="--weights")
    if targets:
        body["targets"] = _pairs(targets, option="--target")
    if sensitivity:
        body["sensitivity"] = True
    document.parse(ChooseSpec, body)
    return {name: value for name, value in body.items() if name != "kind"}


def _pairs(text: str, *, option: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for pair in text.split(","):
        name, equals, number = (part.strip() for part in pair.partition("="))
        twice = name in found
        try:
            found[name] = float(number)
        except ValueError:
            equals = ""
        if not equals or not name or twice:
            raise InvalidInput(option, given=pair, expected="NAME=NUMBER, several with commas between, each name once")
    return found


def _newest(client: Any) -> Any:
    items = client.optimization.list(limit=20)
    if not items:
        raise InvalidInput("no search to choose from", expected="RUN", cure="`rlaas optimize` makes one.")
    newest = next((one for one in items if one["state"] != "failed"), items[0])  # a failed one has no front
    output.say(f"run {newest['id']}")
    return client.optimization.get(newest["id"])


def _listed(items: list[dict[str, Any]], *, as_json: bool) -> int:
    if as_json:
        output.document({"items": items})
        return 0
    rows = [
        {**item, "by": item.get("method") or item.get("rule"), "made": output.when(item["time_us"])} for item in items
    ]
    output.table(rows, {"seq": "seq", "made": "made", "by": "by", "point": "chosen.index", "reason": "reason"})
    return 0


def _shown(made: Mapping[str, Any]) -> None:
    chosen = made["chosen"]
    click.echo(made["reason"])
    if chosen is not None:
        output.facts({**chosen["objectives"]}, indent=1)
        if chosen.get("preference"):
            weights = ",".join(f"{name}={weight:.4g}" for name, weight in chosen["preference"].items())
            click.echo(f"  `rlaas endpoints prefer ENDPOINT {weights}` serves it.")
    for party in made.get("parties") or []:
        if party["utility"] is not None:
            click.echo(
                f"  {party['name']}: {party['utility']:.1%} of its best; alone it would take point {party['would_take']}"
            )
    if made.get("alternatives"):
        click.echo(f"  within 2 %: {', '.join(map(str, made['alternatives'][:10]))}")
    found = made.get("sensitivity")
    if found:
        click.echo(found["reason"])
        rows = [{"objective": name, **one} for name, one in found["intervals"].items()]
        output.table(rows, {"objective": "objective", "weight": "weight", "from": "low", "to": "high"})
