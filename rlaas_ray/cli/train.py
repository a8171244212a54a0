"""`rlaas train`: a policy from an env; also what a place starts, with --run and --attempt.

The spec is checked here, before anything is started; the training itself is `rlaas_ray.train`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rlaas_ray.cli import following
from rlaas_ray.specs.train import TrainSpec


@click.command()
@click.argument("spec", required=False)
@click.option("--env", help="Gymnasium id, or module:Class of your own.")
@click.option("--algorithm", help="[ppo]")
@click.option("--dataset", metavar="DATA", help="log:ENDPOINT, minari:ID or Parquet, for bc, marwil, cql and iql.")
@click.option("--steps", "total_timesteps", type=int, help="Env steps in all.")
@click.option("--seed", type=int)
@click.option("--name", help="Name of the version that is registered.")
@click.option("--mode", help="Named weights of the env's objectives.")
@click.option("--place", type=click.Choice(["here", "ray", "kuberay"]), help="[here]")
@following.options
def train(*, spec: str | None, **told: Any) -> int | None:
    """Train a policy, write a bundle, register it."""
    told["dataset"] = _absolute(told["dataset"])
    return following.command("train", TrainSpec, path=spec, told=told)


def _absolute(dataset: str | None) -> str | None:
    """A path of this folder, wherever the run will be executed."""
    if dataset is None or dataset.startswith(("log:", "minari:", "file://")):
        return dataset
    return str(Path.cwd() / dataset)
