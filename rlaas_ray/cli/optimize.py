"""`rlaas optimize`: a front of a named problem and the point chosen from it; also what a place starts.

Shows how far it is and how long it will take; `--jsonl` prints its events. The search itself is `rlaas_ray.optimize`'s.
"""

from __future__ import annotations

from typing import Any

import click

from rlaas_ray.cli import following
from rlaas_ray.specs.optimize import OptimizeSpec


@click.command()
@click.argument("spec", required=False)
@click.option(
    "--problem", help="5g, recommendation, edge_placement, policy_search, zdt1, ... or module:Class of your own."
)
@click.option("--algorithm", help="nsga2, nsga3, moead, spea2, ... [auto: by the number of objectives]")
@click.option(
    "--effort", help="balanced, quick or thorough: what the options that follow are where they are not given."
)
@click.option("--mode", help="Named weights of the final choice. [normal]")
@click.option("--population-size", type=int)
@click.option("--generations", type=int)
@click.option("--time-limit-s", type=float)
@click.option("--seed", type=int)
@click.option("--name")
@following.options
def optimize(*, spec: str | None, **told: Any) -> int | None:
    """Search for a front of solutions and choose a point."""
    return following.command("optimize", OptimizeSpec, path=spec, told=told)
