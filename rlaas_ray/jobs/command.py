"""What a place starts: the one command of an attempt and its environment, the same on every place.

Called by the places. The specification is not carried along: the attempt claims its run from the API, which has it.
"""

from __future__ import annotations

from collections.abc import Mapping

from rlaas_ray.errors import NotBuilt
from rlaas_ray.specs.runs import Run

_VERBS = {"train": "train", "tune": "tune", "optimize": "optimize", "evaluate": "evaluate"}


def arguments(run: Run) -> list[str]:
    """The arguments of `rlaas` that execute this attempt."""
    verb = _VERBS.get(run.kind)
    if verb is None:
        raise NotBuilt(f"runs of kind {run.kind}", given=run.kind, expected=", ".join(_VERBS))
    return [verb, "--run", run.id, "--attempt", str(run.attempt)]


def environment(base: Mapping[str, str], *, url: str, key: str) -> dict[str, str]:
    """The environment of an attempt: how it reaches the API. Never a database URL: attempts report over HTTP."""
    return {
        **{name: value for name, value in base.items() if name != "RLAAS_DATABASE_URL"},
        "RLAAS_URL": url,
        "RLAAS_API_KEY": key,
    }
