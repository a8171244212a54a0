"""Runs: made, claimed, kept alive, stopped, resumed, ended. Each change is one transaction with its audit row and its acts.

Called by the API for people and for run processes, and by the loop for lost ones. Starts nothing itself: the outbox does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import orjson

from rlaas_ray.control import documents
from rlaas_ray.control.actor import CONTROLLER, Actor
from rlaas_ray.control.bell import Bell
from rlaas_ray.errors import Conflict, InvalidInput, LostLease, NotBuilt, NotFound, Unavailable
from rlaas_ray.specs.document import Document
from rlaas_ray.specs.runs import ENDED, Progress, Run, RunEvent, RunKind, RunState
from rlaas_ray.specs.seams import Clock, Place
from rlaas_ray.store import audit, idempotency, ids, keys, metric_rows, outbox
from rlaas_ray.store import runs as rows
from rlaas_ray.store.database import Connection, Database
from rlaas_ray.store.idempotency import Made, Once

LEASE_S = 30.0
_EVENTS = 1_000_000  # of one run, at most
PATHS: Mapping[str, str] = {
    "train": "training",
    "tune": "tuning",
    "optimize": "optimization",
    "evaluate": "evaluations",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a run shall do."""

    kind: RunKind
    spec: Document
    place: str
    seed: int
    name: str | None = None


# Started, and gone before it could claim its attempt: its output says why.
_DIED_EARLY = {
    "reason": "died",
    "detail": "the attempt ended before it took up its work",
    "cure": "`rlaas runs logs` shows its last words.",
}


class Runs:
    """`places` by name. `inline`: whoever asks executes place `here` itself (the CLI without a server)."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        pepper: bytes,
        places: Mapping[str, Place],
        folder: Path,
        inline: bool,
    ) -> None:
        self._database = database
        self._clock = clock
        self._pepper = pepper
        self._places = places
        self._folder = folder
        self._inline = inline
        self.bell = Bell()

    # what people ask

    def create(self, wanted: Wanted, *, actor: Actor, once: Once | None = None) -> Made:
        """A queued run whose start is promised; the same request again gives the same run."""
        self._check_place(wanted.place)
        now_us = self._clock.now_us()

        with self._news() as tx:

            def make() -> Made:
                run = self._insert(tx, wanted, actor=actor, place_ref=None)
                if wanted.place in self._places:
                    outbox.promise(tx, "submit", payload=_attempt(run), now_us=now_us)
                location = f"/api/v1/{PATHS[run.kind]}/{run.id}"
                return Made(document=documents.run(run), location=location)

            return idempotency.once(tx, once, now_us=now_us, make=make)

    def adopt(self, wanted: Wanted, *, place_ref: str, actor: Actor) -> dict[str, Any]:
        """A run that somebody already started by hand: its document and a key for it. Asked twice, it is the same run."""
        now_us = self._clock.now_us()
        with self._news() as tx:
            run = rows.find_by_ref(tx, place=wanted.place, place_ref=place_ref)
            if run is None:
                run = self._insert(tx, wanted, actor=actor, place_ref=place_ref)
            _, secret = keys.make(
                tx,
                pepper=self._pepper,
                roles=("run",),
                note=f"attempt {run.attempt} of {run.id}, started by hand",
                now_us=now_us,
                subject=f"run:{run.id}",
            )
        return {**documents.run(run), "key": secret}

    def get(self, run_id: str) -> dict[str, Any]:
        """The document. Raises NotFound."""
        with self._database.read() as tx:
            return documents.run(rows.get(tx, run_id))

    def page(
        self, *, kinds: Sequence[str], state: str | None, after: tuple[int, str] | None, limit: int
    ) -> list[dict[str, Any]]:
        """Documents, newest first."""
        with self._database.read() as tx:
            return [documents.run(run) for run in rows.page(tx, kinds=kinds, state=state, after=after, limit=limit)]

    def stop(self, run_id: str, *, actor: Actor) -> dict[str, Any]:
        """Ask it to checkpoint and end; one that has not begun is stopped at once; one that ended stays as it is."""
        now_us = self._clock.now_us()
        with self._news() as tx:
            run = rows.get(tx, run_id)
            if run.state in ENDED or run.state == "stopping":
                return documents.run(run)
            to: RunState = "stopped" if run.state == "queued" else "stopping"
            changes = {"ended_us": now_us} if to == "stopped" else {}
            run = self._move(tx, run, to=to, actor=actor, action="runs.stop", **changes)
            if run.place in self._places:
                outbox.promise(tx, "stop", payload=_attempt(run), now_us=now_us)
        return documents.run(run)

    def resume(self, run_id: str, *, actor: Actor) -> dict[str, Any]:
        """The next attempt, from the last checkpoint. Raises Conflict unless the run failed or was stopped."""
        now_us = self._clock.now_us()
        self._bury(run_id, now_us=now_us)
        with self._news() as tx:
            run = rows.get(tx, run_id)
            self._check_place(run.place)
            if run.state not in {"failed", "stopped"}:
                raise Conflict(
                    f"run {run_id} cannot be resumed",
                    given=run.state,
                    expected="failed or stopped",
                    cure="Start a new one." if run.state in ENDED else self._until_ended(),
                )
            fresh: dict[str, Any] = {"place_ref": None, "ended_us": None, "error": None, "lease_until_us": None}
            run = self._move(tx, run, to="queued", actor=actor, action="runs.resume", attempt=run.attempt + 1, **fresh)
            if run.place in self._places:
                outbox.promise(tx, "submit", payload=_attempt(run), now_us=now_us)
        return documents.run(run)

    def _bury(self, run_id: str, *, now_us: int) -> None:
        """End a run as lost whose command was killed. A server's loop does that; inline, nobody else is there to."""
        if not self._inline:
            return
        with self._database.read() as tx:
            run = rows.get(tx, run_id)
        if run.state not in ENDED and run.lease_until_us is not None and run.lease_until_us < now_us:
            self._end(run, may_lose=True)

    def _until_ended(self) -> str:
        killed = f" Where its process was killed, it counts as lost {LEASE_S:.0f} s after its last word."
        return "Wait until it has ended." + (killed if self._inline else "")

    def events(self, run_id: str, *, after: int, limit: int = 500) -> tuple[list[RunEvent], RunState]:
        """Events beyond `after` and the run's state, from one snapshot."""
        with self._database.read() as tx:
            state = rows.get(tx, run_id).state
            return rows.events(tx, run_id, after=after, limit=limit), state

    def metrics(self, run_id: str) -> dict[str, Any]:
        """Columns: `step`, `time` (microseconds) and one per metric."""
        with self._database.read() as tx:
            rows.get(tx, run_id)
            found: dict[str, Any] = metric_rows.columns(tx, run_id)
        return {"step": found.pop("step"), "time": found.pop("time_us"), **found}

    def logs(self, run_id: str, *, tail: int) -> list[str]:
        """The last lines of its output."""
        with self._database.read() as tx:
            run = rows.get(tx, run_id)
        place = self._places.get(run.place)
        if place is None or run.place_ref is None:
            return []
        try:
            return list(place.logs(run.place_ref, run_id=run.id, follow=False))[-tail:]
        except NotFound:
            return []

    def front(self, run_id: str) -> dict[str, Any]:
        """What a search has found: its result, else the newest `front` event, else an empty front; or the front of a policy."""
        with self._database.read() as tx:
            run = rows.get(tx, run_id)
            of_policy = documents.policy_front(run)
            if of_policy is not None:
                return of_policy
            if run.kind != "optimize":
                raise NotFound(f"{run_id} is no search", given=run.kind, expected="a run of kind optimize")
            if run.result is not None:
                return run.result
            found = rows.newest(tx, run_id, kind=rows.PASSING)
        return found.data if found else {"front": [], "hypervolume": None}

    def trials(self, run_id: str) -> list[dict[str, Any]]:
        """The trials of a study, by number: the newest `trial` event of each."""
        with self._database.read() as tx:
            run = rows.get(tx, run_id)
            if run.kind != "tune":
                raise NotFound(f"{run_id} is no study", given=run.kind, expected="a run of kind tune")
            events = rows.events(tx, run_id, after=0, limit=_EVENTS)
        found = {event.data["trial"]: event.data for event in events if event.kind == "trial"}
        return [found[number] for number in sorted(found)]

    # what run processes ask

    def claim(self, run_id: str, *, attempt: int, place_ref: str | None, actor: Actor) -> dict[str, Any]:
        """The attempt begins. Raises LostLease when it is another's, or over."""
        actor.must_be(f"run:{run_id}")
        now_us = self._clock.now_us()
        with self._news() as tx:
            run = rows.owned(tx, run_id, attempt=attempt)
            if run.state in {"running", "stopping"} and place_ref is not None and run.place_ref == place_ref:
                return documents.run(run)  # the answer to the first asking was lost, or its process began anew
            if run.state != "queued":
                raise LostLease(f"attempt {attempt} of {run_id} is {run.state}", expected="queued", cure="End.")
            changes: dict[str, Any] = {"lease_until_us": _later(now_us)}
            if run.started_us is None:
                changes["started_us"] = now_us
            if place_ref is not None and run.place_ref is None:
                changes["place_ref"] = place_ref
            run = self._move(tx, run, to="running", actor=actor, action="runs.claim", **changes)
        return documents.run(run)

    def beat(self, run_id: str, *, attempt: int, progress: Progress | None, actor: Actor) -> RunState:
        """Renew the lease; gives the state, so that the process hears of a stop."""
        actor.must_be(f"run:{run_id}")
        with self._database.write() as tx:
            until_us = _later(self._clock.now_us())
            return rows.beat(tx, run_id, attempt=attempt, until_us=until_us, progress=progress).state

    def add_events(self, run_id: str, *, attempt: int, events: Sequence[Mapping[str, Any]], actor: Actor) -> int:
        """Append what the process counted itself; sent twice, kept once. Gives the last seq."""
        actor.must_be(f"run:{run_id}")
        last = 0
        with self._news() as tx:
            run = rows.owned(tx, run_id, attempt=attempt)
            for event in events:
                last = rows.add_event(
                    tx,
                    run,
                    kind=event["kind"],
                    data=event["data"],
                    time_us=event["time_us"],
                    source_seq=event["seq"],
                )
        return last

    def add_metrics(
        self, run_id: str, *, attempt: int, values: Sequence[Mapping[str, float | int | None]], actor: Actor
    ) -> int:
        """Append metric rows; gives how many were new."""
        actor.must_be(f"run:{run_id}")
        with self._database.write() as tx:
            rows.owned(tx, run_id, attempt=attempt)
            return metric_rows.add(tx, run_id, attempt=attempt, rows=values)

    def finish(self, run_id: str, *, attempt: int, final: Mapping[str, Any], actor: Actor) -> dict[str, Any]:
        """The attempt's final state {state, result?, error?, checkpoint_uri?}; told twice, it happened once."""
        actor.must_be(f"run:{run_id}")
        state = cast("RunState", final["state"])
        if state not in ENDED:
            raise InvalidInput(
                "final state of a run", given=state, expected=" or ".join(sorted(ENDED)), pointer="/state"
            )
        now_us = self._clock.now_us()
        with self._news() as tx:
            run = rows.owned(tx, run_id, attempt=attempt)
            if run.state == state:
                return documents.run(run)
            changes = {name: final[name] for name in ("result", "error", "checkpoint_uri") if final.get(name)}
            if state == "succeeded":
                changes["progress"] = replace(run.progress, fraction=1.0, eta_s=0.0)
            run = self._move(
                tx, run, to=state, actor=actor, action="runs.finish", ended_us=now_us, lease_until_us=None, **changes
            )
            keys.revoke_subject(tx, f"run:{run_id}", now_us=now_us)
            outbox.promise(tx, "mirror_run", payload={"run": run.id}, now_us=now_us)
        return documents.run(run)

    # what the loop asks

    def sweep(self, *, may_lose: bool) -> list[str]:
        """End runs whose lease ran out: by their own final.json, else as lost (only where `may_lose`). Gives their ids."""
        now_us = self._clock.now_us()
        with self._database.read() as tx:
            expired = rows.expired(tx, now_us=now_us)
            forgotten = rows.waiting(tx, before_us=now_us - 60_000_000)
        ended = [run.id for run in expired if self._end(run, may_lose=may_lose)]
        for run in forgotten:
            place = self._places.get(run.place)
            if place is not None and run.place_ref is None:
                with self._database.write() as tx:
                    outbox.promise(tx, "submit", payload=_attempt(run), now_us=now_us)
            elif place is not None and run.place_ref is not None and not place.alive(run.place_ref):
                self.give_up(run.id, attempt=run.attempt, error=_DIED_EARLY)
                ended.append(run.id)
        return ended

    def started(self, run_id: str, *, attempt: int, place_ref: str) -> None:
        """The place has taken the attempt."""
        with self._database.write() as tx:
            rows.set_place_ref(tx, run_id, attempt=attempt, place_ref=place_ref)

    def give_up(self, run_id: str, *, attempt: int, error: Mapping[str, Any]) -> None:
        """The place refused the attempt for good."""
        with self._news() as tx:
            run = rows.get(tx, run_id)
            if run.attempt == attempt and run.state == "queued":
                now_us = self._clock.now_us()
                self._move(
                    tx, run, to="failed", actor=CONTROLLER, action="runs.submit", ended_us=now_us, error=dict(error)
                )

    def _end(self, run: Run, *, may_lose: bool) -> bool:
        final = self._final(run)
        if final is not None:
            with contextlib.suppress(Conflict):
                self.finish(run.id, attempt=run.attempt, final=final, actor=CONTROLLER)
            return True
        if not may_lose:
            return False
        error = {
            "reason": "lost",
            "detail": f"no heartbeat for {LEASE_S:.0f} s",
            "cure": f"`rlaas runs resume {run.id}` goes on from the last checkpoint.",
        }
        now_us = self._clock.now_us()
        with self._news() as tx:
            current = rows.get(tx, run.id)
            if current.epoch != run.epoch or (current.lease_until_us or 0) >= now_us:
                return False
            self._move(
                tx,
                current,
                to="failed",
                actor=CONTROLLER,
                action="runs.lost",
                ended_us=now_us,
                lease_until_us=None,
                error=error,
            )
            keys.revoke_subject(tx, f"run:{run.id}", now_us=now_us)
            if run.place in self._places and run.place_ref is not None:
                # What still lives (stopped, swapped out) must not wake up and go on writing.
                outbox.promise(tx, "stop", payload=_attempt(run), now_us=now_us)
        return True

    def _final(self, run: Run) -> dict[str, Any] | None:
        path = self._folder / run.id / "final.json"
        try:
            final = orjson.loads(path.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            return None
        return final if isinstance(final, dict) and final.get("attempt") == run.attempt else None

    def _insert(self, tx: Connection, wanted: Wanted, *, actor: Actor, place_ref: str | None) -> Run:
        now_us = self._clock.now_us()
        run = Run(
            id=ids.new(wanted.kind),
            kind=wanted.kind,
            name=wanted.name,
            spec=wanted.spec.to_json(),
            spec_digest=wanted.spec.digest(),
            seed=wanted.seed,
            state="queued",
            epoch=1,
            attempt=1,
            place=wanted.place,
            place_ref=place_ref,
            created_us=now_us,
            owner_key=actor.id,
        )
        rows.insert(tx, run)
        rows.add_event(tx, run, kind="state", data={"state": "queued"}, time_us=now_us)
        _audit(tx, run, actor=actor, action="runs.create", now_us=now_us)
        return run

    def _move(self, tx: Connection, run: Run, *, to: RunState, actor: Actor, action: str, **changes: Any) -> Run:
        run = rows.move(tx, run, to=to, **changes)
        now_us = self._clock.now_us()
        data = {"state": to, "attempt": run.attempt, **({"error": run.error} if run.error and to == "failed" else {})}
        rows.add_event(tx, run, kind="state", data=data, time_us=now_us)
        _audit(tx, run, actor=actor, action=action, now_us=now_us)
        return run

    def _check_place(self, place: str) -> None:
        if place in self._places or (place == "here" and self._inline):
            return
        if place == "kuberay":
            raise NotBuilt("place `kuberay`", cure="Use place here or ray; manifests/ has a RayJob to start by hand.")
        raise Unavailable(f"place {place!r} is not up", given=place, cure="`rlaas up` starts a runtime that has it.")

    @contextlib.contextmanager
    def _news(self) -> Iterator[Connection]:
        with self._database.write() as tx:
            yield tx
        self.bell.ring()


def _attempt(run: Run) -> dict[str, Any]:
    return {"run": run.id, "attempt": run.attempt}


def _later(now_us: int) -> int:
    return now_us + round(LEASE_S * 1e6)


def _audit(tx: Connection, run: Run, *, actor: Actor, action: str, now_us: int) -> None:
    entry = audit.Entry(
        actor=actor.id,
        action=action,
        object=f"run:{run.id}",
        request_id=actor.request_id,
        detail={"state": run.state, "attempt": run.attempt, "spec_digest": run.spec_digest},
    )
    audit.append(tx, entry, now_us=now_us)
