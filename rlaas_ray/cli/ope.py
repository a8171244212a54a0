"""`rlaas ope`: what a policy would have earned, from decisions that another one made and logged."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlaas_ray import settings
from rlaas_ray.cli import fronts, output
from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.policy import parse_policy

if TYPE_CHECKING:
    from rlaas_ray.data.bandit_rows import BanditRows
    from rlaas_ray.policies.loaded import LoadedPolicy
    from rlaas_ray.specs.arrays import F64

_UNIFORM = "uniform"


@click.command()
@click.argument("policy")
@click.option("--log", "log", required=True, metavar="PATH|ENDPOINT", help="An export, a log's folder, or an endpoint.")
@click.option("--arm", help="Weigh only the decisions of this arm. [all: each by its own probability]")
@click.option("--on-policy", metavar="ARM", help="An arm where the target itself decided: its mean stands beside.")
@click.option("--preference", type=fronts.weights, help="Of a target conditioned on weights: instead of those logged.")
@click.option("--actions", type=click.IntRange(2, 1_000_000), help="How many there are, where the log has no masks.")
@click.option("--reward-bounds", type=float, nargs=2, metavar="LOW HIGH", help="[0 1 where every reward is 0 or 1]")
@click.option("--level", type=click.FloatRange(0.5, 0.999), default=0.95, show_default=True)
@output.json_option
def ope(*, policy: str, log: str, as_json: bool, **told: Any) -> int:
    """Estimate a policy's value from logged decisions."""
    found = _found(policy, log=log, **told)
    if as_json:
        output.document(found)
    else:
        output.facts({name: value for name, value in found.items() if name not in {"rules", "reasons", "notes"}})
        for sentence in [*found["reasons"], *found["notes"]]:
            click.echo(f"- {sentence}")
    return 0 if found["support"] == "ok" else 3


def _found(
    policy: str,
    *,
    log: str,
    arm: str | None,
    on_policy: str | None,
    preference: dict[str, float] | None,
    actions: int | None,
    reward_bounds: tuple[float, float] | None,
    level: float,
) -> dict[str, Any]:
    from rlaas_ray.data import bandit_rows
    from rlaas_ray.evaluation import off_policy

    table = bandit_rows.table(log, root=settings.read().data)
    rows = bandit_rows.rows(table, arm=arm)
    estimate = off_policy.estimate(
        rows.reward,
        propensity=rows.propensity,
        target=_target(policy, rows=rows, actions=actions, preference=preference),
        bounds=reward_bounds,
        unrewarded=rows.unrewarded,
        level=level,
    )
    asked = {"target": policy, "log": log, "arms": [arm] if arm else bandit_rows.arms(table)}
    counts = {"rows": len(rows.reward), "unrewarded": rows.unrewarded, "left_out": rows.left_out}
    document = {**asked, **counts, **estimate.to_json(), "notes": off_policy.notes(estimate)}
    if on_policy is not None:
        own = bandit_rows.rows(table, arm=on_policy).reward
        played = off_policy.on_policy(own, estimate=estimate, bounds=reward_bounds)
        document["on_policy"] = {"arm": on_policy, "rows": len(own), **played.interval.to_json()}
        document["notes"].append(played.note)
    return document


def _target(policy: str, *, rows: BanditRows, actions: int | None, preference: dict[str, float] | None) -> F64:
    from rlaas_ray.data import bandit_rows
    from rlaas_ray.evaluation import targets

    if policy == _UNIFORM:
        if preference is not None:
            raise InvalidInput("--preference", given=preference, expected="none: uniform observes no weights")
        return targets.uniform(bandit_rows.allowed(rows, actions=actions), proposed=rows.proposed)
    target, observations = _loaded(policy), rows.observation
    if preference is not None:
        target = target.preferring(preference)
        observations = targets.under(target, observations=observations)
    return targets.probabilities(target, observations=observations, proposed=rows.proposed, mask=rows.mask)


def _loaded(policy: str) -> LoadedPolicy:
    from rlaas_ray.envs import registry
    from rlaas_ray.policies import bundle

    named = parse_policy(policy)
    if named.kind == "baseline":
        assert named.env is not None
        observation_space, action_space = registry.spaces(named.env)
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "policy"
            bundle.write_builtin(
                made,
                env=named.env,
                name=named.name,
                parameters={},
                observation_space=observation_space,
                action_space=action_space,
            )
            return bundle.load(made)
    if named.kind == "path":
        return bundle.load(Path(policy).expanduser())
    from rlaas_ray.cli import server

    with server.client() as client:
        return bundle.load(Path(client.models.get(policy)["path"]))
