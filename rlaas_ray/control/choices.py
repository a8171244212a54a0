"""Choices on the front of a search: made, written down as events of the run, found again.

Called by the API. What is chosen and why is `rlaas_ray.optimize`'s; here a point gets its variables, its event, its audit row.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlaas_ray.control.actor import Actor
from rlaas_ray.control.runs import Runs
from rlaas_ray.errors import InvalidInput
from rlaas_ray.optimize import choosing, state
from rlaas_ray.specs.choose import ChooseSpec
from rlaas_ray.specs.runs import RunEvent
from rlaas_ray.specs.seams import Clock
from rlaas_ray.store import audit, idempotency
from rlaas_ray.store import runs as rows
from rlaas_ray.store.database import Database
from rlaas_ray.store.idempotency import Made, Once

KIND = "choice"


class Choices:
    """`runs` gives the fronts; its bell wakes the readers of events."""

    def __init__(self, *, database: Database, clock: Clock, runs: Runs) -> None:
        self._database = database
        self._clock = clock
        self._runs = runs

    def choose(self, run_id: str, spec: ChooseSpec, *, actor: Actor, once: Once | None = None) -> Made:
        """One point of the run's front, with the reason; an event of the run says which. Raises what the choice raises."""
        found = self._runs.front(run_id)
        run = self._runs.get(run_id)
        frame = None if spec.session is None else self._frame(run_id, seq=spec.session)
        made = choosing.answer(found, spec, frame=frame, rng=np.random.default_rng(run["seed"]))
        if made["chosen"] is not None:
            made["chosen"]["x"] = variables(made["chosen"], found)
            if "preferences" in found:
                names = [one["name"] for one in found["objectives"]]
                made["chosen"]["preference"] = dict(zip(names, made["chosen"]["x"], strict=True))
        told = {name: value for name, value in made.items() if name != "scores"}
        asked = spec.to_json()
        now_us = self._clock.now_us()
        with self._database.write() as tx:

            def make() -> Made:
                row = rows.get(tx, run_id)
                seq = rows.add_event(tx, row, kind=KIND, data={"asked": asked, **told}, time_us=now_us)
                entry = audit.Entry(
                    actor=actor.id,
                    action="runs.choose",
                    object=f"run:{run_id}",
                    request_id=actor.request_id,
                    detail={"seq": seq, "index": (made["chosen"] or {}).get("index")},
                )
                audit.append(tx, entry, now_us=now_us)
                document = {"run": run_id, "seq": seq, "time_us": now_us, "asked": asked, **made}
                return Made(document=document, location=f"/api/v1/optimization/{run_id}/choices", status=201)

            answer = idempotency.once(tx, once, now_us=now_us, make=make)
        self._runs.bell.ring()
        return answer

    def listed(self, run_id: str) -> list[dict[str, Any]]:
        """The choices made on a run's front, newest first. Raises NotFound for a run that is no search."""
        self._runs.front(run_id)
        with self._database.read() as tx:
            events = rows.of_kind(tx, run_id, kind=KIND)
        return [{"run": run_id, "seq": one.seq, "time_us": one.time_us, **one.data} for one in reversed(events)]

    def _frame(self, run_id: str, *, seq: int) -> Mapping[str, Mapping[str, float]]:
        with self._database.read() as tx:
            events = rows.of_kind(tx, run_id, kind=KIND)
        known: dict[int, RunEvent] = {event.seq: event for event in events}
        if seq not in known:
            raise InvalidInput(
                "session of a choice",
                given=seq,
                expected=f"seq of a choice of {run_id}: {', '.join(map(str, known)) or 'there is none yet'}",
                cure="Leave it out for the first choice of a session; its answer has the seq.",
                pointer="/session",
            )
        frame: Mapping[str, Mapping[str, float]] = known[seq].data["frame"]
        return frame


def variables(chosen: Mapping[str, Any], found: Mapping[str, Any]) -> list[float] | None:
    """The point's variables: the document's own where it is the run's chosen one, else from the file that the run has left.

    None where neither has them: a search that still runs, a file on another disk.
    """
    if "preferences" in found:  # of a policy: each point has its weights
        return list(found["x"][chosen["index"]])
    own = found.get("chosen") or {}
    if own.get("index") == chosen["index"]:
        return own.get("x")
    path = Path(str(found.get("points_uri") or ""))
    try:
        x, f = state.points(path.read_bytes(), variables=str(found.get("variables_digest")))
    except (OSError, InvalidInput):
        return None
    sign = np.array([1.0 if one["direction"] == "min" else -1.0 for one in found["objectives"]])
    wanted = np.array([chosen["objectives"][one["name"]] for one in found["objectives"]])
    rows_of = np.flatnonzero((f * sign == wanted).all(axis=1))
    return None if not len(rows_of) else [float(value) for value in x[rows_of[0]]]
