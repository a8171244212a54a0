"""SAC, TD3 and DDPG: env steps per CPU second of SAC against RLlib and stable-baselines3, and how surely all three learn.

    python -m benchmarks.off_policy_sac sac [--widths 64,256] [--envs 8] [--rounds 5]   one update of 256 rows per env step
    python -m benchmarks.off_policy_sac learning [--algorithm td3] [--env Pendulum-v1] [--seeds 5] [--set n_step=3 ...]

Pendulum-v1, two hidden relu layers of the width named, same hyper-parameters and as many envs in every arm. CPU seconds, one
thread, one process, arms interleaved, each past its warm-up before the first round. Exits 1 when a median misses its bar.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import off_policy, training
from benchmarks.off_policy import BARS, Arm
from rlaas_ray import settings
from rlaas_ray.specs.train import EvaluateDuring, TrainSpec

ENV, BATCH, RATE, GAMMA, TAU, BUFFER, WARM_UP = "Pendulum-v1", 256, 1e-3, 0.99, 0.005, 50_000, 1_000
# (env, algorithm) -> budget in env steps, mean return of the bundle over 100 episodes that counts as solved
LEARNT: Mapping[tuple[str, str], tuple[int, float]] = {
    ("Pendulum-v1", "sac"): (6_000, -200.0),
    ("Pendulum-v1", "td3"): (10_000, -200.0),
    ("Pendulum-v1", "ddpg"): (6_000, -200.0),
    ("CartPole-v1", "sac"): (40_000, 475.0),
}


def sac(*, width: int, envs: int) -> dict[str, Arm]:
    """The three arms, each warmed up."""
    spec = TrainSpec(
        env=ENV,
        algorithm="sac",
        num_env_runners=0,
        num_envs_per_runner=envs,
        batch_size=BATCH,
        learning_rate=RATE,
        learning_rate_final=RATE,
        gamma=GAMMA,
        network={"hidden": [width, width], "activation": "relu"},
        total_timesteps=10_000_000,
        options={"buffer_size": BUFFER, "learning_starts": WARM_UP, "updates_per_step": 1.0, "tau": TAU},
    )
    return {
        "ours": off_policy.ours(spec),
        "rllib": _rllib(width, envs=envs),
        "stable-baselines3": _stable_baselines(width, envs=envs),
    }


def _stable_baselines(width: int, *, envs: int) -> Arm:
    from stable_baselines3 import SAC
    from stable_baselines3.common.env_util import make_vec_env

    model = SAC(
        "MlpPolicy",
        make_vec_env(ENV, n_envs=envs, seed=0),
        learning_rate=RATE,
        gamma=GAMMA,
        tau=TAU,
        buffer_size=BUFFER,
        learning_starts=WARM_UP,
        batch_size=BATCH,
        train_freq=1,
        gradient_steps=-1,
        policy_kwargs={"net_arch": [width, width]},
        device="cpu",
        seed=0,
    )

    def advance(steps: int) -> int:
        before = model.num_timesteps
        model.learn(steps, reset_num_timesteps=False)
        return int(model.num_timesteps - before)

    advance(WARM_UP + 200)
    return lambda: advance(400)


def _rllib(width: int, *, envs: int) -> Arm:
    from ray.rllib.algorithms.sac import SACConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

    config = (
        SACConfig()
        .environment(ENV)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=envs, explore=True)
        .training(
            actor_lr=RATE,
            critic_lr=RATE,
            alpha_lr=RATE,
            gamma=GAMMA,
            tau=TAU,
            n_step=1,
            train_batch_size_per_learner=BATCH,
            training_intensity=BATCH,  # rows learnt per step sampled: one update of BATCH rows
            target_network_update_freq=1,
            num_steps_sampled_before_learning_starts=WARM_UP,
            replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": BUFFER},
        )
        .rl_module(
            model_config=DefaultModelConfig(
                fcnet_hiddens=[width, width],
                fcnet_activation="relu",
                head_fcnet_hiddens=[],
                head_fcnet_activation=None,
            )
        )
        .reporting(min_sample_timesteps_per_iteration=100, min_time_s_per_iteration=0)
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

    advance(WARM_UP + 100)
    return lambda: advance(100)


def learning(env: str, *, algorithm: str, seeds: range, options: Mapping[str, Any]) -> int:
    """Trainings over seeds to the end of their budget, judged by the bundle's own 100 episodes, served greedily."""
    budget, bar = LEARNT[env, algorithm]
    reached = 0
    for seed in seeds:
        spec = TrainSpec(
            env=env,
            algorithm=algorithm,
            seed=seed,
            num_env_runners=0,
            total_timesteps=budget,
            serving="greedy",
            checkpoint_every_s=60,
            evaluate=EvaluateDuring(episodes=100),
            options=dict(options),
        )
        with tempfile.TemporaryDirectory() as folder:
            result = training.train(spec, directory=Path(folder))
        found = result["evaluation"]["return_mean"]
        reached += found >= bar
        told = {"env": env, "algorithm": algorithm, "seed": seed, "steps": result["steps"], "return_mean": found}
        print(json.dumps({**told, "cpu_s": result["cpu_s"]}), flush=True)
    print(f"{reached} of {len(seeds)} reached {bar:g}")
    return 0 if reached == len(seeds) else 1


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.off_policy_sac")
    parser.add_argument("what", choices=["sac", "learning"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--widths", default="64,256")
    parser.add_argument("--envs", type=int, default=8)
    parser.add_argument("--env", default="Pendulum-v1", choices=sorted({env for env, _ in LEARNT}))
    parser.add_argument("--algorithm", default="sac", choices=["sac", "td3", "ddpg"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE")
    given = parser.parse_args(arguments)
    settings.quiet()
    warnings.simplefilter("ignore")  # of the arms we are measured against
    if given.what == "learning":
        options = {name: json.loads(value) for name, _, value in (text.partition("=") for text in given.set)}
        seeds = range(given.first_seed, given.first_seed + given.seeds)
        return learning(given.env, algorithm=given.algorithm, seeds=seeds, options=options)
    off_policy.one_thread()
    missed = 0
    for width in (int(text) for text in given.widths.split(",")):
        print(f"{width}-{width}, {given.envs} envs each, one update of {BATCH} rows per env step", flush=True)
        missed |= off_policy.compare(sac(width=width, envs=given.envs), rounds=given.rounds, bars=BARS)
    return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
