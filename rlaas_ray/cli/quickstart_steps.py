"""The steps of a quickstart, each through the product's own doors, each giving a part of the Story.

Called by quickstart.py in this order: serve, train, score, front, rollout twice. Every wait is bounded; nothing here
decides what a verdict is.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rlaas_ray.cli import quickstart_traffic as traffic
from rlaas_ray.cli.story import Learning, Score, Trial
from rlaas_ray.envs import registry, scoring
from rlaas_ray.errors import WorkFailed
from rlaas_ray.evaluation import episodes as evaluating
from rlaas_ray.policies import bundle
from rlaas_ray.sdk.client import RLaaSClient
from rlaas_ray.sdk.handles import Endpoint, Rollout, Run
from rlaas_ray.specs.seams import Clock

ENV = registry.RAN
MODE = "energy_saving"
DRAWN_AFTER = 40  # steps of a quarter of an hour
HEURISTIC = f"baseline:{ENV}/hold"
ENDPOINT = "cells"
# An episode of eight steps, each worth 0.4 to 0.95.
REWARD = {"low": 3.2, "high": 7.6, "gamma": 1.0, "deadline_s": 60.0}
GATES: Mapping[str, Any] = {
    "stages": [10, 25, 50],
    "stage_min_units": 50,
    "min_units": 200,
    "stage_min_s": 0,
    "min_time_s": 0,
    "promote": "superior",
    "adjust": "first_observation",
    "preset": "demo",
}
# Full power, every antenna tilted to the foot of its mast: a setting nobody means, as a unit mistaken in a file would give.
BROKEN = {"power_dbm": 46.0, "tilt_deg": 15.0, "alpha": 1.0}

Tell = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of everything."""

    train_cpu_s: float
    train_limit_s: float
    episodes: int
    generations: int
    warm_units: int
    canary_limit_s: float
    rollback_limit_s: float
    num_env_runners: int | None
    canary_pace: float  # decisions per second: slow enough for the judge to look some dozens of times
    networks: int = 64
    rollback_pace: float = 200.0


FULL = Plan(
    train_cpu_s=45.0,
    train_limit_s=400.0,
    episodes=64,
    generations=300,
    warm_units=512,
    canary_limit_s=150.0,
    rollback_limit_s=90.0,
    num_env_runners=None,
    canary_pace=500.0,
)
FAST = Plan(
    train_cpu_s=12.0,
    train_limit_s=240.0,
    episodes=64,
    generations=60,
    warm_units=320,
    canary_limit_s=90.0,
    rollback_limit_s=60.0,
    num_env_runners=0,
    canary_pace=1000.0,
)


def serve(client: RLaaSClient) -> Endpoint:
    """The operator's heuristic as champion of a new endpoint."""
    return client.endpoints.create(ENDPOINT, policy=HEURISTIC, assign_by="episode", reward=REWARD)


def champion(endpoint: Endpoint) -> str:
    """The version that the champion's arm serves."""
    arms = endpoint.refresh()["table"]["arms"]
    return str(next(arm["version"] for arm in arms if arm["role"] == "champion"))


def train(client: RLaaSClient, *, plan: Plan, seed: int, tell: Tell, clock: Clock) -> tuple[str, Learning]:
    """PPO on the shared view; gives the version and how it learnt."""
    spec: dict[str, Any] = {"env": ENV, "algorithm": "ppo", "mode": MODE, "view": "shared", "name": "ran-ppo"}
    spec |= {"time_limit_cpu_s": plan.train_cpu_s, "seed": seed}
    if plan.num_env_runners is not None:
        spec["num_env_runners"] = plan.num_env_runners
    run = client.training.start(**spec)
    document = followed(run, limit_s=plan.train_limit_s, tell=tell, clock=clock)
    version = document["result"]["version"]
    return _reference(version), learning(document, run.metrics())


def followed(run: Run, *, limit_s: float, tell: Tell, clock: Clock) -> dict[str, Any]:
    """Waits for a run while telling its progress; a run over its time is stopped, one that fails raises WorkFailed."""
    began_s = clock.monotonic_s()
    while True:
        document = run.refresh()
        if document["state"] in {"succeeded", "failed", "stopped"}:
            break
        tell(document.get("progress") or {})
        if clock.monotonic_s() - began_s > limit_s:
            run.stop()
            document = run.ended(timeout_s=30.0)
            break
        clock.sleep(0.25)
    if document["state"] == "failed" or not document.get("result"):
        words = (document.get("error") or {}).get("detail") or document["state"]
        raise WorkFailed(f"{run.id}: {words}", given="\n".join(run.logs()[-15:]), cure="The lines above are its last.")
    return document


def learning(document: Mapping[str, Any], columns: Mapping[str, Any]) -> Learning:
    """The curve from a run's metric columns."""
    steps = [int(s) for s in columns.get("step", [])]
    times = list(columns.get("time_us") or columns.get("time") or [])
    returns = list(columns.get("episode_return_mean", [None] * len(steps)))
    result, spec = document["result"], document["spec"]
    started, ended = document.get("started_us") or 0, document.get("ended_us") or 0
    return Learning(
        steps=tuple(steps),
        elapsed_s=tuple((t - times[0]) / 1e6 for t in times),
        returns=tuple(None if r is None else float(r) for r in returns),
        algorithm=str(spec.get("algorithm", "ppo")),
        seconds=(ended - started) / 1e6,
        total_steps=int(result.get("steps") or (steps[-1] if steps else 0)),
        episodes=int(result.get("episodes") or 0),
    )


def score(
    client: RLaaSClient, version: str, *, champion: str, plan: Plan, seed: int, folder: Path
) -> tuple[tuple[Score, ...], dict[str, Any]]:
    """Heuristics and the trained version on the same fresh worlds, from the bundles that serve; the reference as prepared."""
    card = scoring.reference(ENV)
    prepared = card["modes"][MODE]

    def worlds(count: int) -> Any:
        return registry.make_vector(ENV, num_envs=count, seed=seed, mode=MODE)

    hold = bundle.load(Path(client.models.get(champion)["path"]))
    spaces = registry.spaces(ENV)
    bundle.write_builtin(
        folder / "grid",
        env=ENV,
        name="grid",
        parameters={"mode": MODE},
        observation_space=spaces[0],
        action_space=spaces[1],
    )
    rows = {"grid": bundle.load(folder / "grid"), "trained": bundle.load(Path(client.models.get(version)["path"]))}
    base = evaluating.evaluate(hold, make_vector=worlds, episodes=plan.episodes, seed=seed)
    scores = [_prepared("random", prepared), _measured("hold", base, prepared=prepared)]
    for name, policy in rows.items():
        both = evaluating.paired(policy, hold, make_vector=worlds, episodes=plan.episodes, seed=seed)
        gain = (both.difference.mean, both.difference.low, both.difference.high)
        scores.append(_measured(name, both.a, prepared=prepared, gain=gain))
    scores.append(_prepared(prepared["reference"], prepared))
    return tuple(scores), {"date": card["date"], "git": card["git"][:10]}


def picture(client: RLaaSClient, version: str, *, seed: int) -> bytes:
    """The network under the trained policy after ten hours, as its env draws it: PNG."""
    made = registry.make(ENV, mode=MODE, config={"render_mode": "rgb_array"})
    policy = bundle.load(Path(client.models.get(version)["path"]))
    seen, _ = made.reset(seed=seed)
    for _ in range(DRAWN_AFTER):
        seen, *_ = made.step(policy.act(seen))
    found = io.BytesIO()
    Image.fromarray(np.asarray(made.render())).save(found, "PNG", optimize=True)
    return found.getvalue()


def front(client: RLaaSClient, *, plan: Plan, seed: int, tell: Tell, clock: Clock) -> dict[str, Any]:
    """NSGA-III on the same network's objectives; the run's result."""
    run = client.optimization.start(
        problem_type="5g", mode=MODE, population_size=100, generations=plan.generations, seed=seed
    )
    result: dict[str, Any] = followed(run, limit_s=200.0, tell=tell, clock=clock)["result"]
    return result


def broken(client: RLaaSClient, *, folder: Path) -> str:
    """A registered version that acts badly; nothing but its settings is wrong."""
    spaces = registry.spaces(ENV)
    path = folder / "broken"
    bundle.write_builtin(
        path, env=ENV, name="constant", parameters=BROKEN, observation_space=spaces[0], action_space=spaces[1]
    )
    return _reference(client.models.register(str(path), name="ran-broken"))


def canary(endpoint: Endpoint, version: str, *, plan: Plan, seeds: tuple[int, int], tell: Tell, clock: Clock) -> Trial:
    """The trained policy against the heuristic: traffic before, then the rollout."""
    warm(endpoint, fleet=_fleet(plan, seeds[0]), units=plan.warm_units, tag="before", tell=tell, clock=clock)
    fleet = _fleet(plan, seeds[1], pace=plan.canary_pace)
    limit_s = plan.canary_limit_s
    return rollout(endpoint, version, name="canary", fleet=fleet, limit_s=limit_s, tell=tell, clock=clock)


def caught(endpoint: Endpoint, version: str, *, plan: Plan, seeds: tuple[int, int], tell: Tell, clock: Clock) -> Trial:
    """The planted version against whoever is champion now."""
    warm(endpoint, fleet=_fleet(plan, seeds[0]), units=plan.warm_units // 2, tag="between", tell=tell, clock=clock)
    fleet = _fleet(plan, seeds[1], pace=plan.rollback_pace)
    limit_s = plan.rollback_limit_s
    return rollout(endpoint, version, name="broken", fleet=fleet, limit_s=limit_s, tell=tell, clock=clock)


def _fleet(plan: Plan, seed: int, *, pace: float | None = None) -> traffic.Fleet:
    return traffic.Fleet(env=ENV, mode=MODE, networks=plan.networks, seed=seed, pace=pace)


def warm(endpoint: Endpoint, *, fleet: traffic.Fleet, units: int, tag: str, tell: Tell, clock: Clock) -> traffic.Tally:
    """Traffic before the rollout: what the champion earns, and how that hangs on the first observation."""
    tally = traffic.Tally(start_us=clock.now_us())

    def over() -> bool:
        tell({"message": f"{tally.units} of {units} networks before the rollout"})
        return tally.units >= units

    fleet.drive(endpoint, tag=tag, tally=tally, clock=clock, over=over, limit_s=90.0)
    return tally


def rollout(
    endpoint: Endpoint, version: str, *, name: str, fleet: traffic.Fleet, limit_s: float, tell: Tell, clock: Clock
) -> Trial:
    """A rollout with live traffic until its verdict; one without a verdict in time is aborted, and told as that."""
    serving = champion(endpoint)
    began = endpoint.rollout(version, **GATES)
    started_us = int(began.document["started_us"])
    tally = traffic.Tally(start_us=started_us)
    watch = _Watch(began, tally=tally, limit_s=limit_s, tell=tell, clock=clock)
    fleet.drive(endpoint, tag=name, tally=tally, clock=clock, over=watch.over, limit_s=limit_s + 30.0)
    document = began.refresh()
    if document["state"] not in watch.CLOSED:
        document = began.abort(reason="no verdict within the quickstart's time")
    ended_us = document.get("ended_us")
    evidence = tuple(
        {"t": max(0.0, (row["time_us"] - started_us) / 1e6), **row["statistics"]} for row in began.evidence()
    )
    return Trial(
        name=name,
        champion=serving,
        challenger=version,
        state=str(document["state"]),
        verdict=document.get("verdict"),
        evidence=evidence,
        traffic=tally.traffic(),
        decisions=tally.decisions,
        harmed=tally.harmed,
        failures=tally.fallbacks,
        seconds=(clock.now_us() - started_us) / 1e6,
        verdict_s=(ended_us - started_us) / 1e6 if ended_us else None,
        reward_low=REWARD["low"],
        reward_high=REWARD["high"],
        spec=document["spec"],
    )


class _Watch:
    """Asks for the rollout after each wave, tells how it stands, and says when traffic may end."""

    CLOSED = frozenset({"promoted", "rolled_back", "aborted", "inconclusive"})

    def __init__(self, rollout: Rollout, *, tally: traffic.Tally, limit_s: float, tell: Tell, clock: Clock) -> None:
        self._rollout, self._tally, self._tell, self._clock = rollout, tally, tell, clock
        self._began_s, self._limit_s = clock.monotonic_s(), limit_s

    def over(self) -> bool:
        document = self._rollout.refresh()
        passed_s = self._clock.monotonic_s() - self._began_s
        shown = (document.get("verdict") or {}).get("reason") or f"stage {document.get('stage')}"
        self._tell({
            "fraction": min(0.99, passed_s / self._limit_s),
            "message": f"{self._tally.decisions:,} decisions, {self._tally.harmed:,} by the challenger; {shown}",
        })  # fmt: skip
        return document["state"] in self.CLOSED or passed_s > self._limit_s


def _reference(version: Mapping[str, Any]) -> str:
    return f"{version['name']}:{version['number']}"


def _measured(
    name: str,
    found: evaluating.Evaluation,
    *,
    prepared: Mapping[str, Any],
    gain: tuple[float, float, float] | None = None,
) -> Score:
    low, high = found.return_ci95 or (found.return_mean, found.return_mean)
    floor = prepared["policies"][prepared["random"]]["mean"]
    ceiling = prepared["policies"][prepared["reference"]]["mean"]
    return Score(
        name=name,
        mean=found.return_mean,
        low=low,
        high=high,
        episodes=found.episodes,
        source="measured now",
        score=100 * (found.return_mean - floor) / (ceiling - floor),
        gain=gain,
    )


def _prepared(name: str, prepared: Mapping[str, Any]) -> Score:
    row = prepared["policies"][name]
    low, high = row["ci95"]
    return Score(
        name=name,
        mean=row["mean"],
        low=low,
        high=high,
        episodes=sum(len(returns) for returns in row["returns"]),
        source="prepared beforehand",
        score=0.0 if name == prepared["random"] else 100.0,
    )
