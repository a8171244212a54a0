"""Weights of objectives on the command line, and the front of a weight-conditioned policy as a table.

Used by `rlaas serve`, `rlaas endpoints prefer`, `rlaas evaluate` and the summary of a run. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from rlaas_ray.cli import output
from rlaas_ray.errors import InvalidInput


def weights(text: str) -> dict[str, float]:
    """The mapping of `throughput=0.7,energy=0.3`; whether a policy has these objectives is asked where the policy is.

    Raises InvalidInput.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        try:
            weight = float(number)
        except ValueError:
            weight = -1.0
        if not (equals and name) or name in found or not weight >= 0:
            raise InvalidInput(
                "weights", given=part, expected="objective=weight,..., such as throughput=0.7,energy=0.3"
            )
        found[name] = weight
    return found


def document_of(result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The front of a policy in a run's result: of an evaluation, or of a training's own; None where there is none."""
    inner = result.get("evaluation")
    trained = inner.get("front") if isinstance(inner, Mapping) else None
    return next((one for one in (result, trained) if isinstance(one, Mapping) and "preferences" in one), None)


def table(front: Mapping[str, Any]) -> None:
    """A row for each weight: what it earned, and whether another beats it."""
    objectives = front["objectives"]
    columns = {"": "mark"} | {f"w {one['name']}": f"w{k}" for k, one in enumerate(objectives)}
    columns |= {
        one["name"] + ("" if one["unit"] == "1" else f" ({one['unit']})"): f"v{k}" for k, one in enumerate(objectives)
    }
    rows = []
    for row in front["preferences"]:
        shown = {"mark": "chosen" if row["chosen"] else "front" if row["on_front"] else "beaten"}
        shown |= {f"w{k}": f"{weight:.3g}" for k, weight in enumerate(row["weights"])}
        for k, (mean, (low, high)) in enumerate(zip(row["mean"], row["ci95"], strict=True)):
            shown[f"v{k}"] = f"{mean:.5g} +- {(high - low) / 2:.2g}"
        rows.append(shown)
    output.table(rows, columns)
    click.echo(f"  {front['summary']}")
    click.echo(f"  hypervolume {front['hypervolume']:.4g} of its box, expected utility {front['expected_utility']:.5g}")
