"""Off-policy training: env steps per CPU second against RLlib and stable-baselines3, and how surely and soon it learns.

    python -m benchmarks.off_policy dqn [--rounds 5]                       whole training at one update of 128 rows per env step
    python -m benchmarks.off_policy learning [--env CartPole-v1] [--seeds 5] [--set double=false ...]

CPU seconds, one thread, one process, arms interleaved. Same network (64-64, relu), same hyper-parameters, 8 envs each; every arm
is past its warm-up before the first round. Prints the median and range of the ratios; exits 1 when a median misses its bar.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import training
from rlaas_ray import settings
from rlaas_ray.specs.train import EvaluateDuring, TrainSpec

ENVS, BATCH, RATE, GAMMA, BUFFER, WARM_UP, TARGET_EVERY = 8, 128, 1e-3, 0.99, 50_000, 1_000, 500
BARS = {"rllib": 4.0, "stable-baselines3": 1.5}
# env -> (budget in env steps, mean return of the bundle over 100 episodes that counts as solved)
LEARNT = {"CartPole-v1": (30_000, 475.0), "Acrobot-v1": (50_000, -100.0), "LunarLander-v3": (200_000, 200.0)}

Arm = Callable[[], int]  # trains a little further; gives the env steps that it did


def ours(spec: TrainSpec) -> Arm:
    """The product's trainer in this process, without Ray."""
    from rlaas_ray.train import families, runner
    from rlaas_ray.train.seam import Build

    worlds, plan = runner.resolve(spec)
    trainer = families.of(spec).trainer(
        Build(spec=spec, plan=plan, worlds=worlds, directory=Path(tempfile.gettempdir()), slice_s=0.0, actor_cpus=1.0)
    )

    def advance(steps: int) -> int:
        before = trainer.ledger.steps
        while trainer.ledger.steps - before < steps:
            trainer.train()
        return trainer.ledger.steps - before

    advance(WARM_UP + 500)
    return lambda: advance(2_000)


def dqn() -> dict[str, Arm]:
    """The three arms of DQN, each warmed up."""
    spec = TrainSpec(
        env="CartPole-v1",
        algorithm="dqn",
        num_env_runners=0,
        num_envs_per_runner=ENVS,
        batch_size=BATCH,
        learning_rate=RATE,
        learning_rate_final=RATE,
        gamma=GAMMA,
        network={"hidden": [64, 64], "activation": "relu"},
        total_timesteps=10_000_000,
        options={
            "double": False,
            "buffer_size": BUFFER,
            "learning_starts": WARM_UP,
            "updates_per_step": 1.0,
            "target_every": TARGET_EVERY,
            "epsilon_initial": 0.1,
            "epsilon_final": 0.1,
        },
    )
    return {"ours": ours(spec), "rllib": _rllib(), "stable-baselines3": _stable_baselines()}


def _stable_baselines() -> Arm:
    from stable_baselines3 import DQN
    from stable_baselines3.common.env_util import make_vec_env

    model = DQN(
        "MlpPolicy",
        make_vec_env("CartPole-v1", n_envs=ENVS, seed=0),
        learning_rate=RATE,
        gamma=GAMMA,
        buffer_size=BUFFER,
        learning_starts=WARM_UP,
        batch_size=BATCH,
        train_freq=1,
        gradient_steps=-1,
        target_update_interval=TARGET_EVERY,
        exploration_initial_eps=0.1,
        exploration_final_eps=0.1,
        policy_kwargs={"net_arch": [64, 64]},
        device="cpu",
        seed=0,
    )

    def advance(steps: int) -> int:
        before = model.num_timesteps
        model.learn(steps, reset_num_timesteps=False)
        return int(model.num_timesteps - before)

    advance(WARM_UP + 500)
    return lambda: advance(1_000)


def _rllib() -> Arm:
    from ray.rllib.algorithms.dqn import DQNConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    config = (
        DQNConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=0, num_envs_per_env_runner=ENVS, explore=True)
        .training(
            lr=RATE,
            gamma=GAMMA,
            train_batch_size_per_learner=BATCH,
            training_intensity=BATCH,  # rows learnt per step sampled: one update of BATCH rows
            target_network_update_freq=TARGET_EVERY,
            num_steps_sampled_before_learning_starts=WARM_UP,
            double_q=False,
            dueling=False,
            epsilon=0.1,
            replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": BUFFER},
        )
        .rl_module(
            model_config=DefaultModelConfig(
                fcnet_hiddens=[64, 64], fcnet_activation="relu", head_fcnet_hiddens=[], head_fcnet_activation=None
            )
        )
        .reporting(min_sample_timesteps_per_iteration=200, min_time_s_per_iteration=0)
        .debugging(seed=0, log_level="ERROR")
    )
    algorithm = config.build_algo()

    def done() -> int:
        return int(algorithm.metrics.peek(("env_runners", "num_env_steps_sampled_lifetime"), default=0))

    def advance(steps: int) -> int:
        before = done()
        while done() - before < steps:
            algorithm.train()
        return done() - before

    advance(WARM_UP + 200)
    return lambda: advance(200)


def compare(arms: Mapping[str, Arm], *, rounds: int, bars: Mapping[str, float]) -> int:
    """Rounds of every arm in turn; gives the exit status."""
    rates: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(rounds):
        for name, arm in arms.items():
            started = time.process_time()
            steps = arm()
            rates[name].append(steps / (time.process_time() - started))
    missed = False
    print(f"{'arm':20} {'steps/CPU-s, median (range)':32} ours is faster by, median (range)")
    for name, found in rates.items():
        line = f"{name:20} {f'{statistics.median(found):,.0f} ({min(found):,.0f} to {max(found):,.0f})':32}"
        if name != "ours":
            ratios = [a / b for a, b in zip(rates["ours"], found, strict=True)]
            middle = statistics.median(ratios)
            line += f" {middle:.2f}x ({min(ratios):.2f} to {max(ratios):.2f}), bar {bars[name]:g}x"
            missed |= middle < bars[name]
        print(line, flush=True)
    return 1 if missed else 0


def learning(env: str, *, algorithm: str, seeds: range, options: Mapping[str, Any]) -> int:
    """Trainings over seeds to the end of their budget, judged by the bundle's own 100 episodes."""
    budget, bar = LEARNT[env]
    reached = 0
    for seed in seeds:
        spec = TrainSpec(
            env=env,
            algorithm=algorithm,
            seed=seed,
            num_env_runners=0,
            total_timesteps=budget,
            checkpoint_every_s=60,
            evaluate=EvaluateDuring(episodes=100),
            options=dict(options),
        )
        with tempfile.TemporaryDirectory() as folder:
            result = training.train(spec, directory=Path(folder))
        found = result["evaluation"]["return_mean"]
        reached += found >= bar
        told = {"env": env, "seed": seed, "steps": result["steps"], "return_mean": found, "cpu_s": result["cpu_s"]}
        print(json.dumps(told), flush=True)
    print(f"{reached} of {len(seeds)} reached {bar:g}")
    return 0 if reached == len(seeds) else 1


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.off_policy")
    parser.add_argument("what", choices=["dqn", "learning"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--env", default="CartPole-v1", choices=sorted(LEARNT))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE")
    given = parser.parse_args(arguments)
    settings.quiet()
    warnings.simplefilter("ignore")  # of the arms we are measured against
    if given.what == "learning":
        options = {name: json.loads(value) for name, _, value in (text.partition("=") for text in given.set)}
        seeds = range(given.first_seed, given.first_seed + given.seeds)
        return learning(given.env, algorithm="dqn", seeds=seeds, options=options)
    one_thread()
    return compare(dqn(), rounds=given.rounds, bars=BARS)


def one_thread() -> None:
    """For every arm alike."""
    import torch

    torch.set_num_threads(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
