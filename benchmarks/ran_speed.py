"""How much of RanControl's own speed is left while PPO trains on it, and what a second env runner brings.

    python -m benchmarks.ran_speed whole [--rounds 5]       env steps/s of the trainer over those of the bare vector env
    python -m benchmarks.ran_speed runners [--rounds 5]     two env runners against one, sampling alone; what weights cost

`whole` counts CPU seconds of one thread, both in turns in one process; its bare env takes random actions drawn before. `runners`
counts wall seconds, so it needs two idle cores. Exits 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlaas_ray import settings
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import families, runner, threads
from rlaas_ray.train.seam import Build

RAN = "rlaas/RanControl-v1"
BARS = {"whole": 0.4, "runners": 1.75, "weights": 0.02}
SHOWN_WEIGHTS = 200  # how often the weights travel to be timed


@contextmanager
def trainer(spec: TrainSpec) -> Iterator[tuple[Any, Any, Any]]:
    """The trainer of a spec with its plan and worlds."""
    worlds, plan = runner.resolve(spec)
    on_ray = None
    if plan.actors:
        from rlaas_ray.train.rllib.onray import OnRllib

        on_ray = OnRllib()
    with tempfile.TemporaryDirectory() as folder:
        made = families.of(spec).trainer(
            Build(spec=spec, plan=plan, worlds=worlds, directory=Path(folder), slice_s=0.0, actor_cpus=1.0, ray=on_ray)
        )
        yield made, plan, worlds
        made.stop()


def spec_of(runners: int, *, envs: int = 64) -> TrainSpec:
    """64-64, 4 epochs; as many steps a fragment whatever the runners."""
    return TrainSpec(
        env=RAN,
        num_env_runners=runners,
        num_envs_per_runner=envs,
        batch_size=max(1, runners) * envs * 16,
        epochs=4,
        network={"hidden": [64, 64]},
        total_timesteps=10**9,
    )


def whole(rounds: int, *, seconds: float) -> bool:
    """Trainer over bare env, in turns."""
    with threads.one(), trainer(spec_of(0)) as (made, plan, worlds):
        env = worlds.make_flat(envs=plan.envs, seed=0)
        env.reset()
        env.action_space.seed(0)
        actions = [env.action_space.sample() for _ in range(8)]

        def train() -> int:
            before = made.ledger.steps
            made.train()
            return int(made.ledger.steps - before)

        def step() -> int:
            for action in actions:
                env.step(action)
            return len(actions) * plan.envs

        train()
        train()
        pairs = [(_rate(train, limit_s=seconds), _rate(step, limit_s=seconds)) for _ in range(rounds)]
    ratios = [trained / bare for trained, bare in pairs]
    return _told(
        "whole",
        ratios,
        bar=BARS["whole"],
        trainer_steps_per_cpu_s=round(statistics.median(p[0] for p in pairs)),
        bare_steps_per_cpu_s=round(statistics.median(p[1] for p in pairs)),
        epochs=plan.epochs,
        share_of_rows=plan.share,
    )


def runners(rounds: int, *, seconds: float) -> bool:
    """Sampling alone with two runners over one; then what sending weights costs beside a fragment."""
    import ray

    from rlaas_ray.train import cluster
    from rlaas_ray.train.rllib.runners import packed

    _, plan = runner.resolve(spec_of(3))
    with cluster.connected(plan, address=None), trainer(spec_of(1)) as (one, *_), trainer(spec_of(2)) as (two, *_):

        def sampling(algo: Any) -> Callable[[], int]:
            return lambda: sum(f.steps for f in algo._collect(algo.loop.request()))

        calls = [sampling(one), sampling(two)]
        for call in calls:
            call()
            call()
        pairs = [[_rate(call, limit_s=seconds, clock=time.perf_counter) for call in calls] for _ in range(rounds)]
        fragment_s = 2 * plan.envs * plan.steps / statistics.median(pair[1] for pair in pairs)
        actors = list(two.env_runner_group._worker_manager.actors().values())
        began = time.perf_counter()
        for _ in range(SHOWN_WEIGHTS):
            ray.get([actor.assert_healthy.remote() for actor in actors])
        idle_s = time.perf_counter() - began
        began = time.perf_counter()
        for _ in range(SHOWN_WEIGHTS):
            ray.get([actor.__ray_call__.remote(_received, packed(two.loop.request())) for actor in actors])
        sent_s = (time.perf_counter() - began - idle_s) / SHOWN_WEIGHTS
    met = _told("runners", [both / alone for alone, both in pairs], bar=BARS["runners"])
    return met & _told("weights", [max(0.0, sent_s) / fragment_s], bar=BARS["weights"], at_most=True)


def _received(_: Any, request: Any) -> int:
    return int(request.parameters.shape[0])


def _rate(call: Callable[[], int], *, limit_s: float, clock: Callable[[], float] = time.process_time) -> float:
    steps, began = 0, clock()
    while (spent := clock() - began) < limit_s:
        steps += call()
    return steps / spent


def _told(what: str, ratios: list[float], *, bar: float, at_most: bool = False, **more: Any) -> bool:
    found = statistics.median(ratios)
    spread = [round(min(ratios), 4), round(max(ratios), 4)]
    print(json.dumps({"what": what, "ratio": round(found, 4), "range": spread, "bar": bar, **more}), flush=True)
    return found <= bar if at_most else found >= bar


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.ran_speed")
    parser.add_argument("what", choices=["whole", "runners"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each arm in each round")
    given = parser.parse_args(arguments)
    settings.quiet()
    met = {"whole": whole, "runners": runners}[given.what](given.rounds, seconds=given.seconds)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
