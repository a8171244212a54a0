"""`rlaas tune`: a search over what a training takes; also what a place starts, with --run and --attempt.

The spec is checked here, names of the space too, before anything is started; the study itself is `rlaas_ray.tune`'s.
"""

from __future__ import annotations

from typing import Any

import click

from rlaas_ray.cli import following
from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.tune import TuneSpec

_TRAIN = ("env", "algorithm", "total_timesteps")
# What is tuned where neither a file nor --space says: what matters most, whatever the env (Andrychowicz et al. 2021).
DEFAULT_SPACE: dict[str, Any] = {"learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}}


@click.command()
@click.argument("spec", required=False)
@click.option("--env", help="Gymnasium id, or module:Class of your own.")
@click.option("--algorithm", help="[ppo]")
@click.option("--steps", "total_timesteps", type=int, help="Env steps of each trial.")
@click.option("--function", help="module:function of your own instead of a training.")
@click.option(
    "--space", "spaces", multiple=True, metavar="NAME=WHAT", help="LOW..HIGH, LOW..HIGH:log, or A,B,C; may be repeated."
)
@click.option("--search", type=click.Choice(["grid", "random", "tpe", "gp", "cmaes", "nsga2"]), help="[tpe]")
@click.option("--scheduler", help="none, asha, hyperband, median or pbt. [none]")
@click.option("--trials", type=int)
@click.option("--parallel", type=int, help="Trials at once. [one for each CPU]")
@click.option("--seeds", type=int, help="Trainings of each trial. [1]")
@click.option("--objective", help="[episode_return_mean]")
@click.option("--minimise", is_flag=True, help="The smallest objective is the best.")
@click.option("--seed", type=int)
@click.option("--name", help="Name of the version that is registered.")
@click.option("--place", type=click.Choice(["here", "ray"]), help="[here]")
@following.options
def tune(*, spec: str | None, spaces: tuple[str, ...], minimise: bool, **told: Any) -> int | None:
    """Search what a training takes; the best policy is registered."""
    told["maximise"] = False if minimise else None
    given = {name: told.pop(name) for name in _TRAIN}
    sets = list(told.pop("sets"))
    sets += [f"train.{name}={value}" for name, value in given.items() if value is not None]
    told["sets"] = tuple(sets)
    if spaces:
        told["space"] = dict(parsed(text) for text in spaces)
    elif spec is None and told["run_id"] is None and not any(text.startswith("space.") for text in sets):
        told["space"] = DEFAULT_SPACE
    return following.command("tune", TuneSpec, path=spec, told=told)


def parsed(text: str) -> tuple[str, dict[str, Any]]:
    """`learning_rate=1e-5..1e-2:log` or `minibatch_size=64,128` as an entry of a space."""
    name, equals, what = text.partition("=")
    if not equals or not name or not what:
        raise InvalidInput("--space", given=text, expected="NAME=LOW..HIGH, NAME=LOW..HIGH:log or NAME=A,B,C")
    if ".." not in what:
        return name, {"choice": [following.value(item) for item in what.split(",")]}
    ends, _, how = what.partition(":")
    low, _, high = ends.partition("..")
    if how not in {"", "log"}:
        raise InvalidInput("--space", given=text, expected="`:log` after the range, or nothing")
    return name, {"low": low, "high": high, **({"log": True} if how else {})}
