"""`rlaas evaluate`: how good a policy is, over fresh episodes with recorded seeds; also what a place starts."""

from __future__ import annotations

from typing import Any

import click

from rlaas_ray.cli import following, fronts
from rlaas_ray.specs.evaluate import EvaluateSpec


@click.command()
@click.argument("policy", required=False)
@click.option("--env", help="Gymnasium id, or module:Class of your own.")
@click.option("--episodes", type=int, help="[64]")
@click.option("--seed", type=int)
@click.option("--mode", help="Named weights of the env's objectives.")
@click.option("--preference", type=fronts.weights, help="Of a policy that is conditioned on weights: energy=0.3,...")
@click.option("--front", is_flag=True, default=None, help="Measure its whole front over weights.")
@following.options
def evaluate(*, policy: str | None, **told: Any) -> int | None:
    """Measure a policy on an env over fresh episodes."""
    return following.command("evaluate", EvaluateSpec, path=None, told={"policy": policy, **told})
