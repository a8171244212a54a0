"""The report of a process that has many runs in hand: what all of them tell, in one transaction and one answer.

Called by the API for `POST /runs/report`. Each run is authorised by the key of its own attempt, before the transaction; one
that is refused changes nothing and harms no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlaas_ray.control.bell import Bell
from rlaas_ray.control.keyring import Keyring
from rlaas_ray.control.runs import LEASE_S
from rlaas_ray.errors import Forbidden, LostLease, NotFound, RlaasError
from rlaas_ray.specs.seams import Clock
from rlaas_ray.store import reports as rows
from rlaas_ray.store.database import Database
from rlaas_ray.store.reports import Told


class Reports:
    """`bell` wakes the readers of events."""

    def __init__(self, *, database: Database, clock: Clock, keyring: Keyring, bell: Bell) -> None:
        self._database = database
        self._clock = clock
        self._keyring = keyring
        self._bell = bell

    def take(
        self, told: Sequence[tuple[str, Told]], *, roles: frozenset[str], request_id: str | None
    ) -> dict[str, Mapping[str, Any]]:
        """Pairs of a key and what its run tells -> run id: {state}, or {problem} where it was refused.

        `roles`: of which each key needs one.
        """
        answers: dict[str, Mapping[str, Any]] = {}
        known: list[Told] = []
        for secret, one in told:
            try:
                actor = self._keyring.who(secret, request_id=request_id)
                actor.must_be(f"run:{one.run_id}")
                if not actor.roles & roles:
                    raise Forbidden("this key reports on no run", expected="one of " + ", ".join(sorted(roles)))
            except RlaasError as error:
                answers[one.run_id] = {"problem": error.to_problem()}
            else:
                known.append(one)
        with self._database.write() as tx:
            found = rows.states(tx, known)
            owned = []
            for one in known:
                refused = _refused(one, found.get(one.run_id))
                answers[one.run_id] = {"problem": refused.to_problem()} if refused else {"state": found[one.run_id][1]}
                if refused is None:
                    owned.append(one)
            rows.beats(tx, owned, until_us=self._clock.now_us() + round(LEASE_S * 1e6))
            rows.add_events(tx, owned)
            rows.add_metrics(tx, owned)
        self._bell.ring()
        return answers


def _refused(one: Told, found: tuple[int, str] | None) -> RlaasError | None:
    if found is None:
        return NotFound("no such run", given=one.run_id, cure="`rlaas runs list` shows them.")
    attempt, state = found
    if attempt == one.attempt and state in {"running", "stopping"}:
        return None
    return LostLease(
        f"attempt {one.attempt} does not own run {one.run_id}",
        expected=f"attempt {attempt} in state running or stopping; it is {state}",
        cure="Write no further checkpoint and end.",
    )
