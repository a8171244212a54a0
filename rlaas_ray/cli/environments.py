"""`rlaas env`: environments by name, ours and anybody's: what they are, how sound, how fast, how well a policy does.

Runs here, without a server: an env is code, and `module:Class` is the user's own.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import click

from rlaas_ray.cli import output
from rlaas_ray.errors import NotBuilt
from rlaas_ray.specs.policy import parse_policy


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
    from rlaas_ray.policies import builtin, spaces

    made = registry.make(env_id)
    known = registry.baselines_of(env_id)
    told = {
        "id": env_id,
        "observation_space": spaces.to_json(made.observation_space),
        "action_space": spaces.to_json(made.action_space),
        "objectives": [list(objective) for objective in made.metadata.get("objectives", [])],
        "policies": [f"baseline:{env_id}/{name}" for name in builtin.known(env_id)],
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
@output.json_option
def check(*, env_id: str, as_json: bool) -> int:
    """Whether an env keeps the Gymnasium API and ours; exit 3 where it is unfit."""
    from rlaas_ray.envs import check as checks

    found = checks.check(env_id)
    fit = checks.fit(found)
    if as_json:
        output.document({"id": env_id, "fit": fit, "checks": [dataclasses.asdict(finding) for finding in found]})
        return 0 if fit else 3
    for finding in found:
        verdict = "ok" if finding.passed else ("note" if finding.advice else "FAIL")
        click.echo(f"{verdict:<5} {finding.name}{f': {finding.detail}' if finding.detail else ''}")
    click.echo(f"{env_id} is {'fit' if fit else 'unfit'}")
    return 0 if fit else 3


@env.command()
@click.argument("env_id", metavar="ENV")
@click.option("--num-envs", type=click.IntRange(1, 100_000), default=16, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.1, 600), default=2.0, show_default=True)
@output.json_option
def bench(*, env_id: str, num_envs: int, seconds: float, as_json: bool) -> None:
    """CPU time of an env step, vectorised and one by one, with random actions."""
    from rlaas_ray.envs import speed

    found = speed.measure(env_id, num_envs=num_envs, clock_s=time.process_time, seconds=seconds / 2)
    told = {**dataclasses.asdict(found), "ratio": found.ratio, "steps_per_cpu_s": 1e6 / found.vector_us}
    if as_json:
        output.document(told)
    else:
        words = f"{found.vector_us:.1f} us a step, {found.ratio:.1f} times faster than one by one"
        click.echo(f"{told['steps_per_cpu_s']:,.0f} env steps per CPU second  ({num_envs} envs; {words})")


@env.command()
@click.argument("env_id", metavar="ENV")
@click.option("--policy", required=True, help="NAME of a built-in policy, or any POLICY.")
@click.option("--mode", help="Named weights of the env's objectives. [normal]")
@click.option(
    "--episodes", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Per seed; there are five seeds."
)
@output.json_option
def score(*, env_id: str, policy: str, mode: str | None, episodes: int, as_json: bool) -> None:
    """Place a policy between random (0) and the reference (100), on the reference's own worlds."""
    from rlaas_ray.envs import scoring

    found = scoring.score(env_id, _act(env_id, policy=policy), mode=mode, episodes=episodes)
    told: dict[str, Any] = {"env": env_id, "policy": policy}
    for field in dataclasses.fields(found):
        value = getattr(found, field.name)
        told[field.name] = value.tolist() if hasattr(value, "tolist") else value
    if as_json:
        output.document(told)
    else:
        output.facts({name: value for name, value in told.items() if name != "returns"})


def _act(env_id: str, *, policy: str) -> Any:
    """The policy as what `scoring` calls: a batch of observations and a generator give a batch of actions."""
    from rlaas_ray.envs import registry, scoring
    from rlaas_ray.policies import builtin, bundle, spaces

    name = policy.removeprefix(f"baseline:{env_id}/")
    observation_space, action_space = registry.spaces(env_id)
    if name in builtin.known(env_id):
        source = builtin.find(env_id, name, action_space=action_space)
        return scoring.act_of(builtin.build(source, parameters={}), env=env_id)
    loaded = bundle.load(Path(_path(policy)))
    if loaded.state_size:
        raise NotBuilt(
            "scores of a policy with a memory",
            given=policy,
            cure="`rlaas evaluate` carries its memory from step to step.",
        )

    def act(observations: Any, rng: Any) -> Any:
        drawn = loaded.decide(spaces.encode(observation_space, observations), rng=rng)
        return spaces.actions(action_space, drawn.action)  # as executed: what was proposed may be a target

    return act


def _path(policy: str) -> str:
    """Where the bundle of a POLICY lies."""
    if parse_policy(policy).kind == "path":
        return policy
    from rlaas_ray.cli import server

    with server.client() as client:
        return str(client.models.get(policy)["path"])
