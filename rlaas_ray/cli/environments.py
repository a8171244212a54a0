"""`rlaas env`: environments by name, ours and anybody's: what they are, how sound, how fast, how well a policy does.

Runs here, without a server: an env is code, and `module:Class` is the user's own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from rlaas_ray.cli import output
from rlaas_ray.errors import InvalidInput


@click.group()
def env() -> None:
    """Environments: list, show, check, bench, score."""


@env.command("list")
@click.option("--all", "every", is_flag=True, help="Every id that Gymnasium knows, not ours alone.")
@output.json_option
def listed(*, every: bool, as_json: bool) -> None:
    """Ids that `--env` takes, beside module:Class."""
    from rlaas_ray.envs import registry

    names = registry.known() if every else registry.ours()
    if as_json:
        output.document({"items": [{"id": name} for name in names]})
        return
    for name in names:
        click.echo(name)
    if not every:
        output.say("and every id of Gymnasium (--all), and module:Class of your own")


@env.command()
@click.argument("env_id", metavar="ENV")
@output.json_option
def show(*, env_id: str, as_json: bool) -> None:
    """Spaces, objectives and built-in policies of an env."""
    from rlaas_ray.envs import registry
    from rlaas_ray.policies import spaces

    made = registry.make(env_id)
    known = registry.baselines_of(env_id)
    told = {
        "id": env_id,
        "observation_space": spaces.to_json(made.observation_space),
        "action_space": spaces.to_json(made.action_space),
        "objectives": [list(objective) for objective in made.metadata.get("objectives", [])],
        "policies": [f"baseline:{env_id}/{name}" for name in (known.POLICIES if known else {})],
        "references": sorted(known.REFERENCES) if known else [],
        "shared_view": registry.training_view(env_id) is not None,
    }
    made.close()  # type: ignore[no-untyped-call]  # Gymnasium leaves it untyped
    if as_json:
        output.document(told)
    else:
        output.facts(told)


@env.command()
@click.argument("env_id", metavar="ENV")
@click.option("--num-envs", type=click.IntRange(1, 100_000), default=16, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=3.0, show_default=True)
@output.json_option
def bench(*, env_id: str, num_envs: int, seconds: float, as_json: bool) -> None:
    """Env steps per second with random actions, one process."""
    from rlaas_ray.envs import registry

    vector = registry.make_vector(env_id, num_envs=num_envs, seed=0)
    vector.reset(seed=0)
    vector.action_space.seed(0)
    actions = [vector.action_space.sample() for _ in range(16)]  # drawn before: sampling is not the env's cost
    for action in actions:
        vector.step(action)
    steps, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        vector.step(actions[steps % len(actions)])
        steps += 1
    vector.close()
    told = {"id": env_id, "num_envs": num_envs, "steps": steps * num_envs, "seconds": took}
    told["steps_per_s"] = steps * num_envs / took
    if as_json:
        output.document(told)
    else:
        click.echo(f"{told['steps_per_s']:,.0f} env steps/s  ({num_envs} envs, {took:.1f} s)")


def weights_of(text: str | None) -> tuple[float, ...] | None:
    """`0.4,0.6` as numbers."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InvalidInput("--weights", given=text, expected="numbers, e.g. 0.4,0.6") from None


def told(value: Mapping[str, Any], *, as_json: bool) -> None:
    """A document, either way."""
    if as_json:
        output.document(dict(value))
    else:
        output.facts(value)
