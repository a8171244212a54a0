"""Everything that a policy server says, without a transport: requests of one turn of the loop in, answers out.

Called by the doors (`asgi.py` for the native listener, `replica.py` for Serve's ingress). Synchronous; its one effect is
the decision log, written before an answer exists. Never a 5xx for what a client sent.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from rlaas_ray.errors import MethodNotAllowed, NotFound, RlaasError, TooLarge, WorkFailed
from rlaas_ray.monitoring.metrics import CONTENT_TYPE, ServingMetrics
from rlaas_ray.serve import asks, inference, wire
from rlaas_ray.serve.decide import Ask, Decided, Decider
from rlaas_ray.serve.keys import MAY_DECIDE, MAY_LOOK, Keyring
from rlaas_ray.serve.rewards import RewardTaker
from rlaas_ray.serve.shadow import Shadows
from rlaas_ray.serve.state import EndpointState, State
from rlaas_ray.serve.tokens import Tokens
from rlaas_ray.serve.turn import Body, Turn, Wanted
from rlaas_ray.serve.wire import Answer, Request
from rlaas_ray.serve.writer import DecisionWriter
from rlaas_ray.specs.routing import Arm
from rlaas_ray.specs.seams import Clock

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_PATHS = "/v1/endpoints/{name}/decisions, /v1/endpoints/{name}/rewards, /predict, /v2, /health or /metrics"
_BUG = WorkFailed("internal error", cure="Tell the operator the request id.")
_logger = logging.getLogger(__name__)


class Answerer:
    """The contract of one process. `state` is swapped as a whole by `routes.py`; `draining` is set by the door."""

    def __init__(
        self,
        *,
        writer: DecisionWriter,
        keys: Keyring,
        nonce: str,
        rng: np.random.Generator,
        clock: Clock,
        metrics: ServingMetrics,
    ) -> None:
        self.state = State()
        self.draining = False
        self.shadows = Shadows(writer=writer, rng=rng, clock=clock, metrics=metrics)
        self._keys = keys
        self._nonce = nonce
        self._clock = clock
        self._metrics = metrics
        self._rewards = RewardTaker(writer=writer, clock=clock, metrics=metrics)
        self._tokens = Tokens(keys)
        self._decider = Decider(
            writer=writer, rng=rng, clock=clock, metrics=metrics, shadows=self.shadows, tokens=self._tokens
        )
        self._latencies: dict[str, Any] = {}  # as many as endpoints
        self._decisions_named = 0
        self._requests_named = 0

    def handle(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer per request, in order."""
        state = self.state
        turn = Turn(self._decider)
        answers = [self._first(request, index=i, state=state, turn=turn) for i, request in enumerate(requests)]
        if turn.waiting:
            turn.decide()
            now_s = self._clock.monotonic_s()
            for wanted in turn.waiting:
                answers[wanted.index] = self._waited(wanted, turn=turn)
                waited_s = max(now_s - wanted.request.arrived_s, 0.0)
                self._latency(wanted.endpoint.table.endpoint).observe(waited_s)
        finished = [self._finish(request, answer) for request, answer in zip(requests, answers, strict=True)]
        # Counted by the turn: finding a labelled counter costs as much as answering a small request.
        for kind, count in Counter(answer.status // 100 for answer in finished).items():
            self._metrics.requests.labels(f"{kind}xx").inc(count)
        return finished

    def refuse(self, request: Request, error: RlaasError) -> Answer:
        """The answer to a request that the door itself turns away: too large, too slow, too many."""
        self._name(request)
        answer = self._finish(request, _error(request, error))
        self._metrics.requests.labels(f"{answer.status // 100}xx").inc()
        return answer

    def _latency(self, endpoint: str) -> Any:
        child = self._latencies.get(endpoint)
        if child is None:
            child = self._latencies[endpoint] = self._metrics.latency.labels(endpoint)
        return child

    def _first(self, request: Request, *, index: int, state: State, turn: Turn) -> Answer | None:
        self._name(request)
        try:
            return self._route(request, index=index, state=state, turn=turn)
        except RlaasError as error:
            return _error(request, error)
        except Exception:  # a bug of ours must not end the turn of everybody else
            _logger.exception("%s %s failed, request %s", request.method, request.path, request.request_id)
            return _error(request, _BUG)

    def _waited(self, wanted: Wanted, *, turn: Turn) -> Answer:
        try:
            return turn.answer(wanted, unsynced=self._unsynced)
        except RlaasError as error:
            return _error(wanted.request, error)
        except Exception:  # as above
            _logger.exception("request %s failed after its decision", wanted.request.request_id)
            return _error(wanted.request, _BUG)

    def _unsynced(self, wanted: Wanted, rows: int) -> None:
        self._metrics.log_dropped.labels(wanted.endpoint.table.endpoint, "unsynced").inc(rows)

    def _finish(self, request: Request, answer: Answer | None) -> Answer:
        assert answer is not None
        if answer.unsynced is not None:
            again = answer.unsynced
            answer.unsynced = lambda: self._finish(request, again())
        answer.headers.append((b"x-request-id", request.request_id))
        if self.draining:
            answer.headers.append((b"connection", b"close"))
        return answer

    def _name(self, request: Request) -> None:
        given = request.headers.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            request.request_id = given
        else:
            self._requests_named += 1
            request.request_id = b"req-%s-%x" % (self._nonce.encode(), self._requests_named)

    # --- routing ------------------------------------------------------------------------------------------------------

    def _route(self, request: Request, *, index: int, state: State, turn: Turn) -> Answer | None:
        """The answer, or None when the request waits for the turn's decisions."""
        path = request.path
        if path.startswith("/v1/endpoints/"):
            name, _, verb = path.removeprefix("/v1/endpoints/").partition("/")
            if verb in ("decisions", "rewards"):
                self._may_decide(request)
                endpoint = state.endpoint(name)
                if verb == "rewards":
                    return self._take_rewards(request, endpoint=endpoint)
                turn.add(self._decisions(request, index=index, endpoint=endpoint))
                return None
        if path == "/predict":
            self._may_decide(request)
            turn.add(self._predict(request, index=index, state=state))
            return None
        if path == "/v2" or path.startswith("/v2/"):
            return self._infer(request, index=index, state=state, turn=turn)
        if path == "/health":
            wire.method(request, "GET")
            return self._health(state)
        if path == "/metrics":
            wire.method(request, "GET")
            self._keys.check(request, roles=MAY_LOOK)
            return Answer(status=200, body=self._metrics.text(), content_type=CONTENT_TYPE)
        raise NotFound("path", given=path, expected=_PATHS)

    def _may_decide(self, request: Request) -> None:
        wire.method(request, "POST")
        self._keys.check(request, roles=MAY_DECIDE)

    def _health(self, state: State) -> Answer:
        if self.draining or not state.ready:
            status = b'{"status":"draining"}' if self.draining else b'{"status":"starting"}'
            return Answer(status=503, body=status, headers=[(b"retry-after", b"1")])
        return Answer(status=200, body=b'{"status":"healthy"}')

    def _take_rewards(self, request: Request, *, endpoint: EndpointState) -> Answer:
        body = wire.document(request)
        _size(request, batched="batch" in body)
        return Answer(status=202, body=orjson.dumps(self._rewards.take(endpoint.table.endpoint, body=body)))

    # --- what waits for decisions -------------------------------------------------------------------------------------

    def _decisions(self, request: Request, *, index: int, endpoint: EndpointState) -> Wanted:
        items, batched = wire.rows(wire.document(request))
        _size(request, batched=batched)
        wanted = [
            asks.decision(
                item,
                endpoint=endpoint,
                tokens=self._tokens,
                arrived_s=request.arrived_s,
                where=f"/batch/{i}" if batched else "",
            )
            for i, item in enumerate(items)
        ]
        for ask in wanted:
            ask.decision_id = ask.decision_id or self._next_id()

        def render(bodies: list[Body], _decided: list[Decided]) -> Answer:
            told: Any = {"batch": bodies} if batched else bodies[0]
            arms = sorted({(body["version"], body["arm"]) for body in bodies})
            headers = [
                (b"x-rlaas-version", wire.text(",".join(version for version, _ in arms))),
                (b"x-rlaas-arm", wire.text(",".join(arm for _, arm in arms))),
            ]
            return Answer(status=200, body=orjson.dumps(told), headers=headers)

        return Wanted(index=index, request=request, endpoint=endpoint, asks=wanted, render=render)

    def _predict(self, request: Request, *, index: int, state: State) -> Wanted:
        body = wire.document(request)
        wire.known_only(body, known=frozenset({"state"}))
        if "state" not in body:
            raise wire.required("state", where="")
        endpoint = state.endpoint("default")
        asks.refuse_forgetting(endpoint, path=request.path)
        rows, batched = asks.observations(body["state"], endpoint=endpoint)
        _size(request, batched=batched)
        unit = request.headers.get(b"rlaas-unit", b"").decode("utf-8", "replace")
        wanted = self._unnamed(rows, request=request, endpoint=endpoint, unit=unit, arm=None)

        def render(_bodies: list[Body], decided: list[Decided]) -> Answer:
            actions = [d.action_json for d in decided]
            headers = _arm_headers(decided[0])
            if unit:
                headers.append((b"x-rlaas-decision-id", wire.text(",".join(d.ask.decision_id for d in decided[:32]))))
                headers.append((b"x-rlaas-logged", b"true" if all(d.logged for d in decided) else b"false"))
            fallbacks = sorted({d.fallback for d in decided if d.fallback is not None})
            if fallbacks:
                headers.append((b"x-rlaas-fallback", wire.text(",".join(fallbacks))))
            told = {"action": actions if batched else actions[0]}
            return Answer(status=200, body=orjson.dumps(told), headers=headers)

        return Wanted(index=index, request=request, endpoint=endpoint, asks=wanted, render=render)

    def _infer(self, request: Request, *, index: int, state: State, turn: Turn) -> Answer | None:
        call = inference.route(request, state=state, draining=self.draining)
        if isinstance(call, Answer):
            return call
        self._keys.check(request, roles=MAY_DECIDE)
        asks.refuse_forgetting(call.endpoint, path=request.path)
        parsed = inference.parse(request, call)
        unit = parsed.unit or ""
        wanted = self._unnamed(
            [(call.endpoint.row(row), None) for row in parsed.rows],
            request=request,
            endpoint=call.endpoint,
            unit=unit,
            arm=call.arm,
        )

        def render(_bodies: list[Body], decided: list[Decided]) -> Answer:
            body = inference.body(call, parsed, decided=decided)
            return Answer(status=200, body=body, headers=_arm_headers(decided[0]))

        turn.add(Wanted(index=index, request=request, endpoint=call.endpoint, asks=wanted, render=render))
        return None

    def _unnamed(
        self, rows: list[asks.Seen], *, request: Request, endpoint: EndpointState, unit: str, arm: Arm | None
    ) -> list[Ask]:
        """Asks of the two plain faces. Without a unit nobody is assigned and no reward could be joined: champion, not logged."""
        table = endpoint.table
        if arm is None and not unit and not table.estop:
            arm = endpoint.champion
        return [
            Ask(
                unit=unit,
                row=row,
                episode_id=None,
                step=0,
                decision_id=self._next_id(),
                given=False,
                deadline_s=request.arrived_s + table.deadline_ms / 1000,
                log=bool(unit),
                arm=arm,
                mask=mask,
            )
            for row, mask in rows
        ]

    def _next_id(self) -> str:
        self._decisions_named += 1
        return f"{self._nonce}-{self._decisions_named:x}"


def _arm_headers(decided: Decided) -> list[wire.Header]:
    arm = decided.assigned.arm
    return [(b"x-rlaas-version", wire.text(arm.version)), (b"x-rlaas-arm", wire.text(arm.name))]


def _size(request: Request, *, batched: bool) -> None:
    limit = wire.BATCH_LIMIT if batched else wire.BODY_LIMIT
    if len(request.body) > limit:
        raise TooLarge("body", given=f"{len(request.body)} bytes", expected=f"at most {limit}", cure="Send fewer rows.")


def _error(request: Request, error: RlaasError) -> Answer:
    openly = request.path.startswith("/v2")
    answer = inference.problem(error) if openly else wire.problem(error, request_id=request.request_id)
    if isinstance(error, MethodNotAllowed):
        answer.headers.append((b"allow", str(error.expected).encode()))
    return answer
