"""`rlaas env`: environments by name, ours and anybody's: what they are, how sound, how fast, how well a policy does.

Runs here, without a server: an env is code, and `module:Class` is the user's own.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from rlaas_ray.cli import output
from rlaas_ray.errors import InvalidInput, NotFound, nearest
from rlaas_ray.specs.policy import parse_policy


@click.group()
def env() -> None:
    """Environments: list, show, check, bench, score, picture, reference."""


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
        "modes": list(made.metadata.get("modes", [])),
        "costs": list(made.metadata.get("costs", [])),
        "cost_limits": list(made.metadata.get("cost_limits", [])),
        "policies": [f"baseline:{env_id}/{name}" for name in builtin.known(env_id)],
        "references": sorted(known.REFERENCES) if known else [],
        "shared_view": registry.training_view(env_id) is not None,
    }
    made.close()  # type: ignore[no-untyped-call]  # Gymnasium leaves it untyped
    if as_json:
        output.document(told)
    else:
        output.facts({name: _brief(value) for name, value in told.items()})


def _brief(value: Any) -> Any:
    """A space's bounds as one number where they are all the same: nobody reads 320 of them."""
    if not isinstance(value, dict):
        return value
    one = {name: bound[0] for name, bound in value.items() if name in {"low", "high"} and len(set(bound)) == 1}
    return {name: one.get(name, _brief(part)) for name, part in value.items()}


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
@click.option("--mode", help="A setting of the env's card. [its first]")
@click.option(
    "--episodes", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Per seed; there are five seeds."
)
@output.json_option
def score(*, env_id: str, policy: str, mode: str | None, episodes: int, as_json: bool) -> None:
    """Place a policy between random (0) and the reference (100), on the reference's own worlds."""
    from rlaas_ray.envs import scoring

    settings = scoring.settings(env_id)
    named, config = settings.get(mode or next(iter(settings)), (None, {}))
    play = _play(env_id, policy=policy, mode=named, config=config)
    found = scoring.score(env_id, play, mode=mode, episodes=episodes)
    told: dict[str, Any] = {"env": env_id, "policy": policy}
    for field in dataclasses.fields(found):
        value = getattr(found, field.name)
        told[field.name] = value.tolist() if hasattr(value, "tolist") else value
    if as_json:
        output.document(told)
    else:
        output.facts({name: value for name, value in told.items() if name != "returns"})


@env.command()
@click.argument("env_id", metavar="ENV")
@click.option("--to", "target", required=True, type=click.Path(dir_okay=False, path_type=Path), help="PNG, or GIF.")
@click.option("--policy", default="random", show_default=True, help="NAME of a built-in policy, or any POLICY.")
@click.option("--mode", help="Named weights of the env's objectives.")
@click.option(
    "--steps", type=click.IntRange(0, 10_000), default=20, show_default=True, help="Steps before the picture."
)
@click.option("--seed", type=int, default=0, show_default=True)
@output.json_option
def picture(*, env_id: str, target: Path, policy: str, mode: str | None, steps: int, seed: int, as_json: bool) -> None:
    """Draw the state after some steps of a policy; a GIF shows every step."""
    from PIL import Image

    kind = target.suffix.lower()
    if kind not in {".png", ".gif"}:
        raise InvalidInput("--to", given=target.name, expected="a name that ends in .png or .gif")
    frames = [Image.fromarray(frame) for frame in _frames(env_id, policy=policy, mode=mode, steps=steps, seed=seed)]
    if kind == ".png":
        frames[-1].save(target)
    else:
        frames[0].save(target, save_all=True, append_images=frames[1:], duration=100, loop=0)
    _wrote(target, as_json=as_json)


def _frames(env_id: str, *, policy: str, mode: str | None, steps: int, seed: int) -> list[Any]:
    import numpy as np

    from rlaas_ray.envs import registry

    made = registry.make(env_id, mode=mode, config={"render_mode": "rgb_array"})
    act = _play(env_id, policy=policy, mode=mode, config={})()
    rng = np.random.default_rng(seed)
    seen, _ = made.reset(seed=seed)
    frames: list[Any] = [np.asarray(made.render())]
    for _ in range(steps):
        batch = {k: v[None] for k, v in seen.items()} if isinstance(seen, dict) else np.asarray(seen)[None]
        seen, _, ended, cut, _ = made.step(act(batch, rng)[0])
        frames.append(np.asarray(made.render()))
        if ended or cut:
            break
    made.close()  # type: ignore[no-untyped-call]  # Gymnasium leaves it untyped
    return frames


@env.command()
@click.argument("env_id", metavar="ENV")
@click.option("--to", "target", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The JSON file.")
@click.option("--mode", "modes", multiple=True, help="Only these settings; again for several. [all]")
@click.option("--episodes", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Per seed.")
@click.option("--revision", default="", help="Git revision to write down.")
@output.json_option
def reference(
    *, env_id: str, target: Path, modes: tuple[str, ...], episodes: int, revision: str, as_json: bool
) -> None:
    """Measure an env's card anew: every baseline and reference on the same worlds."""
    from rlaas_ray.envs import scoring

    known = list(scoring.settings(env_id))
    wanted = list(modes) or known
    unknown = [mode for mode in wanted if mode not in known]
    if unknown:
        raise InvalidInput("--mode", given=unknown[0], expected=", ".join(known), cure=nearest(unknown[0], known))
    began, measured = time.monotonic(), {}
    for number, mode in enumerate(wanted, start=1):

        def told(line: str, number: int = number) -> None:
            output.say(f"{time.monotonic() - began:6.0f} s  [{number}/{len(wanted)}] {line}")

        measured[mode] = scoring.measure_reference(env_id, setting=mode, episodes=episodes, told=told)
    date = dt.datetime.now(tz=dt.UTC).date().isoformat()
    target.write_text(scoring.text(scoring.document(env_id, measured, revision=revision, date=date)), encoding="utf-8")
    _wrote(target, as_json=as_json)


def _wrote(target: Path, *, as_json: bool) -> None:
    if as_json:
        output.document({"path": str(target)})
    else:
        output.say(f"wrote {target}")


def _play(env_id: str, *, policy: str, mode: str | None, config: Mapping[str, Any]) -> Any:
    """The policy as what `scoring` plays: the card's own where it has that name, a built-in one, else a bundle."""
    from rlaas_ray.envs import registry, scoring
    from rlaas_ray.policies import builtin, bundle, spaces

    name = policy.removeprefix(f"baseline:{env_id}/")
    observation_space, action_space = registry.spaces(env_id, config=config)
    module = registry.baselines_of(env_id)
    own = scoring.carded(module, mode=mode, config=config) if module is not None and mode is not None else {}
    if name in own:
        return scoring.act_of(own[name], env=env_id, config=config)
    if name in builtin.known(env_id):
        source = builtin.find(env_id, name, action_space=action_space)
        return scoring.act_of(builtin.build(source, parameters={}), env=env_id, config=config)
    loaded = bundle.load(Path(_path(policy, known=sorted({*own, *builtin.known(env_id)}))))
    if (loaded.observation_space, loaded.action_space) != (observation_space, action_space):
        raise InvalidInput(
            f"spaces of {policy}",
            given=f"{loaded.observation_space} -> {loaded.action_space}",
            expected=f"those of {env_id}: {observation_space} -> {action_space}",
            cure="Score it under the setting (--mode) of the card that has its spaces, or evaluate it with its env_config.",
        )

    def play() -> Any:
        memory: dict[str, Any] = {}

        def act(observations: Any, rng: Any) -> Any:
            mask = loaded.action_mask(observations)
            drawn = loaded.decide(spaces.encode(observation_space, observations), rng=rng, mask=mask, **memory)
            if drawn.state is not None:
                memory["state"] = drawn.state
            return spaces.actions(action_space, drawn.action)  # as executed: what was proposed may be a target

        return act

    return play


def _path(policy: str, *, known: list[str]) -> str:
    """Where the bundle of a POLICY lies; `known` built-in policies are named where there is none."""
    if parse_policy(policy).kind == "path":
        return policy
    from rlaas_ray.cli import server

    try:
        with server.client() as client:
            return str(client.models.get(policy)["path"])
    except NotFound:
        raise NotFound(
            "no such policy",
            given=policy,
            expected=f"a registered name, a bundle's path, or {', '.join(known)}",
            cure=nearest(policy, known),
        ) from None
