"""One turn's decisions, gathered over requests and endpoints, made together, and given back to the requests that wait.

Used by `answer.py` alone. Knows ids that clients chose: the same id asks once, in a turn and over the last 10,000.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rlaas_ray.errors import Conflict, RlaasError
from rlaas_ray.serve.decide import Ask, Decided, Decider, fingerprint
from rlaas_ray.serve.state import EndpointState
from rlaas_ray.serve.wire import Answer, Request

Body = dict[str, Any]


@dataclass(slots=True, kw_only=True, eq=False)
class Wanted:
    """A request that waits for decisions. `render` makes its answer; `replayed` are bodies that were given before."""

    index: int
    request: Request
    endpoint: EndpointState
    asks: list[Ask]
    render: Callable[[list[Body], list[Decided]], Answer]
    replayed: dict[int, Body] = field(default_factory=dict)


class Turn:
    """The decisions of one turn of the loop."""

    def __init__(self, decider: Decider) -> None:
        self._decider = decider
        self._asks: dict[str, tuple[EndpointState, list[Ask]]] = {}
        self._made: dict[int, Decided] = {}
        self._failed: dict[str, RlaasError] = {}
        self.waiting: list[Wanted] = []

    def add(self, wanted: Wanted) -> None:
        """Put a request's asks into the turn, but for those that this process has answered already."""
        name = wanted.endpoint.table.endpoint
        _, asks = self._asks.setdefault(name, (wanted.endpoint, []))
        fresh: list[Ask] = []
        for i, ask in enumerate(wanted.asks):
            if ask.given:
                kept = self._decider.replay(name, ask=ask)
                if kept is not None:
                    wanted.replayed[i] = kept
                    continue
                twin = next((other for other in (*asks, *fresh) if other.decision_id == ask.decision_id), None)
                if twin is not None:
                    wanted.asks[i] = _same(twin, ask)
                    continue
            fresh.append(ask)
        asks.extend(fresh)
        self.waiting.append(wanted)

    def decide(self) -> None:
        """Make them all; an endpoint that cannot answer fails its own requests only."""
        for name, (endpoint, asks) in self._asks.items():
            if not asks:
                continue
            try:
                decided = self._decider.decide(endpoint, asks=asks)
            except RlaasError as error:
                self._failed[name] = error
            else:
                self._made.update({id(d.ask): d for d in decided})

    def answer(self, wanted: Wanted, *, unsynced: Callable[[Wanted, int], None]) -> Answer:
        """The answer of one request, after `decide`. `unsynced` hears of rows that the disk did not confirm."""
        table = wanted.endpoint.table
        if len(wanted.replayed) < len(wanted.asks) and table.endpoint in self._failed:
            raise self._failed[table.endpoint]
        decided = [self._made[id(ask)] for i, ask in enumerate(wanted.asks) if i not in wanted.replayed]

        def rendered() -> Answer:
            bodies = self._bodies(wanted)
            for i, ask in enumerate(wanted.asks):
                if ask.given and i not in wanted.replayed:
                    self._decider.remember(table.endpoint, ask=ask, body=bodies[i])
            return wanted.render(bodies, decided)

        def without_disk() -> Answer:
            for d in decided:
                d.logged = False
            unsynced(wanted, len(decided))
            return rendered()

        answer = rendered()
        if table.durability == "power" and any(d.logged for d in decided):
            answer.unsynced = without_disk
        return answer

    def _bodies(self, wanted: Wanted) -> list[Body]:
        epoch = wanted.endpoint.table.epoch
        return [
            wanted.replayed[i] if i in wanted.replayed else self._made[id(ask)].body(epoch=epoch)
            for i, ask in enumerate(wanted.asks)
        ]


def _same(twin: Ask, ask: Ask) -> Ask:
    """The same new id twice in one turn: the second gets what the first gets, if it asks the same."""
    if fingerprint(twin) != fingerprint(ask):
        raise Conflict("decision_id was used for another request", given=ask.decision_id, pointer="/decision_id")
    return twin
