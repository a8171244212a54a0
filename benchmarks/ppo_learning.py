"""How well PPO learns: the field's solved scores over seeds, and continuous control against stable-baselines3's PPO.

    python -m benchmarks.ppo_learning solved [--env LunarLander-v3] [--seeds 5]
    python -m benchmarks.ppo_learning continuous [--env Pendulum-v1] [--seeds 10]

`solved` trains, then evaluates the bundle greedily over 100 episodes of worlds that training never saw. `continuous` gives both
sides the same hyper-parameters, observations and rewards normalised, actions scaled to [-1, 1], and compares the mean return of
the last 100 training episodes: the 95 % interval of the difference must reach 0. One thread, one process; a JSON line a run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from benchmarks import training
from rlaas_ray import settings
from rlaas_ray.specs.train import EvaluateDuring, TrainSpec
from rlaas_ray.train import families, runner, threads
from rlaas_ray.train.seam import Build

EPISODES = 100
# env -> (what the spec says beside the defaults, mean return over 100 episodes that counts as solved)
SOLVED: Mapping[str, tuple[dict[str, Any], float]] = {
    "CartPole-v1": ({"total_timesteps": 100_000}, 475.0),
    "Acrobot-v1": (
        {
            "total_timesteps": 150_000,
            "gamma": 0.99,
            "gae_lambda": 0.95,
            "batch_size": 4096,
            "num_envs_per_runner": 16,
            "entropy_coefficient": 0.01,
            "epochs": 6,
        },
        -100.0,
    ),
    "Pendulum-v1": ({"total_timesteps": 150_000, "gamma": 0.95}, -200.0),
    "LunarLander-v3": (
        {
            "total_timesteps": 600_000,
            "gamma": 0.995,
            "gae_lambda": 0.97,
            "batch_size": 4096,
            "num_envs_per_runner": 32,
            "entropy_coefficient": 0.01,
        },
        200.0,
    ),
}
# env -> (keyword arguments, env steps, gamma)
CONTINUOUS: Mapping[str, tuple[dict[str, Any], int, float]] = {
    "Pendulum-v1": ({}, 60_000, 0.95),
    "LunarLander-v3": ({"continuous": True}, 100_000, 0.99),
}
ENVS, STEPS, MINIBATCH, EPOCHS, RATE, LAMBDA, CLIP, VALUE, NORM = 16, 64, 256, 10, 1e-3, 0.95, 0.2, 0.5, 0.5


def solved(env: str, *, seed: int) -> dict[str, Any]:
    """One training by the settings above, and what its bundle reaches."""
    fields, bar = SOLVED[env]
    spec = TrainSpec(env=env, seed=seed, num_env_runners=0, evaluate=EvaluateDuring(episodes=EPISODES), **fields)
    with tempfile.TemporaryDirectory() as folder:
        result = training.train(spec.model_copy(update={"serving": "greedy"}), directory=Path(folder))
    reached = result["evaluation"]["return_mean"]
    return {
        "env": env,
        "seed": seed,
        "steps": result["steps"],
        "cpu_s": round(result["cpu_s"], 1),
        "training_return": round(result["episode_return_mean"], 1),
        "return": round(reached, 1),
        "bar": bar,
        "reached": reached >= bar,
    }


def ours(env: str, *, seed: int) -> tuple[float, float]:
    """Mean return of the last 100 episodes of a training here, and its CPU seconds."""
    config, steps, gamma = CONTINUOUS[env]
    spec = TrainSpec(
        env=env,
        env_config=config,
        seed=seed,
        num_env_runners=0,
        num_envs_per_runner=ENVS,
        batch_size=ENVS * STEPS,
        minibatch_size=MINIBATCH,
        epochs=EPOCHS,
        learning_rate=RATE,
        learning_rate_final=RATE / 10,
        gamma=gamma,
        gae_lambda=LAMBDA,
        clip=CLIP,
        value_coefficient=VALUE,
        gradient_clip=NORM,
        normalise_observations=True,
        total_timesteps=steps,
    )
    worlds, plan = runner.resolve(spec)
    with tempfile.TemporaryDirectory() as folder:
        trainer = families.of(spec).trainer(
            Build(spec=spec, plan=plan, worlds=worlds, directory=Path(folder), slice_s=0.0, actor_cpus=1.0)
        )
        began = time.process_time()
        while trainer.ledger.steps < steps:
            trainer.train()
        trainer.stop()
    return float(np.mean(trainer.ledger.recent)), time.process_time() - began


def sb3(env: str, *, seed: int) -> tuple[float, float]:
    """The same with stable-baselines3 and its VecNormalize."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    config, steps, gamma = CONTINUOUS[env]
    recent: deque[float] = deque(maxlen=EPISODES)

    class Told(gymnasium.Wrapper):
        def reset(self, **kwargs: Any) -> Any:
            self._return = 0.0
            return super().reset(**kwargs)

        def step(self, action: Any) -> Any:
            found = super().step(action)
            self._return += float(found[1])
            if found[2] or found[3]:
                recent.append(self._return)
            return found

    def one() -> Any:
        told = Told(gymnasium.make(env, **config))  # PPO clips to the bounds by itself
        return gymnasium.wrappers.RescaleAction(told, np.float32(-1), np.float32(1))

    venv = VecNormalize(DummyVecEnv([one] * ENVS), gamma=gamma, clip_obs=10.0)
    model = PPO(
        "MlpPolicy",
        venv,
        n_steps=STEPS,
        batch_size=MINIBATCH,
        n_epochs=EPOCHS,
        learning_rate=lambda left: RATE * (0.1 + 0.9 * left),
        gamma=gamma,
        gae_lambda=LAMBDA,
        clip_range=CLIP,
        vf_coef=VALUE,
        ent_coef=0.0,
        max_grad_norm=NORM,
        policy_kwargs={"net_arch": {"pi": [64, 64], "vf": [64, 64]}, "activation_fn": torch.nn.Tanh},
        seed=seed,
        device="cpu",
    )
    began = time.process_time()
    model.learn(steps)
    venv.close()
    return float(np.mean(recent)), time.process_time() - began


def continuous(env: str, *, seeds: int) -> bool:
    """Both in turns; whether the interval of the difference (ours - theirs, Welch) reaches 0 or lies above."""
    from scipy import stats

    found: dict[str, list[float]] = {"ours": [], "sb3": []}
    spent: dict[str, list[float]] = {"ours": [], "sb3": []}
    for seed in range(seeds):
        for name, run in (("ours", ours), ("sb3", sb3)):
            reached, cpu_s = run(env, seed=seed)
            found[name].append(reached)
            spent[name].append(cpu_s)
            told = {"env": env, "arm": name, "seed": seed, "return": round(reached, 1), "cpu_s": round(cpu_s, 1)}
            print(json.dumps(told), flush=True)
    interval = stats.ttest_ind(found["ours"], found["sb3"], equal_var=False).confidence_interval(0.95)
    told = {
        "env": env,
        "seeds": seeds,
        **{f"{name}_mean": round(statistics.mean(values), 1) for name, values in found.items()},
        "difference_95": [round(float(interval.low), 1), round(float(interval.high), 1)],
        "cpu_share": round(statistics.median(spent["ours"]) / statistics.median(spent["sb3"]), 3),
    }
    print(json.dumps(told), flush=True)
    return bool(interval.high >= 0)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.ppo_learning")
    parser.add_argument("what", choices=["solved", "continuous"])
    parser.add_argument("--env", default=None)
    parser.add_argument("--seeds", type=int, default=None)
    parser.add_argument("--first-seed", type=int, default=0)
    given = parser.parse_args(arguments)
    settings.quiet()
    warnings.filterwarnings("ignore")
    with threads.one():
        if given.what == "continuous":
            envs = [given.env] if given.env else list(CONTINUOUS)
            missed = [env for env in envs if not continuous(env, seeds=given.seeds or 10)]
            return 1 if missed else 0
        met = True
        for env in [given.env] if given.env else SOLVED:
            runs = []
            for seed in range(given.first_seed, given.first_seed + (given.seeds or 5)):
                runs.append(solved(env, seed=seed))
                print(json.dumps(runs[-1]), flush=True)
            reached = sum(run["reached"] for run in runs)
            cpu_s = statistics.median(run["cpu_s"] for run in runs)
            print(f"{env}: {reached} of {len(runs)} reached, median CPU {cpu_s} s", flush=True)
            met &= reached == len(runs)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
