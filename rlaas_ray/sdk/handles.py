"""Made from async_handles.py by `python -m rlaas_ray.sdk.faces`; edit that one.

Handles of the blocking client: a run, an endpoint, a rollout, each with what can be asked of it.

Made by the client's nouns. `document` is the last answer of the API, whole; what a handle says itself it asks anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from rlaas_ray.errors import InvalidInput, TimedOut, WorkFailed
from rlaas_ray.sdk import exchange, notebook, results, waiting

_ENDED = frozenset({"succeeded", "failed", "stopped"})
_CLOSED = frozenset({"promoted", "rolled_back", "aborted", "inconclusive"})


class _Asks(Protocol):
    """What a handle needs of the client."""

    url: str
    in_process: bool

    def get(self, path: str, **params: Any) -> Any: ...

    def post(self, path: str, *, json: Any = None, idempotency_key: str | None = None) -> Any: ...

    def send(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Any: ...

    def decide(self, urls: Sequence[str], path: str, *, json: Any) -> tuple[Any, str]: ...

    def pages(self, path: str, *, limit: int | None, **params: Any) -> list[dict[str, Any]]: ...

    def events(self, run_id: str, *, after: int = 0) -> Iterator[exchange.Event]: ...


class Run:
    """A run: a training, a study, a search or an evaluation."""

    def __init__(self, client: _Asks, document: dict[str, Any]) -> None:
        self._client = client
        self.document = document
        self.id: str = document["id"]
        self.kind: str = document["kind"]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.document['state']}>"

    def __iter__(self) -> Iterator[exchange.Event]:
        return self._client.events(self.id)

    @property
    def status(self) -> str:
        """Its state now: queued, running, stopping, succeeded, failed or stopped."""
        return str((self.refresh())["state"])

    def refresh(self) -> dict[str, Any]:
        """Ask for the document anew."""
        self.document = self._client.get(f"{exchange.API}/runs/{self.id}")
        return self.document

    def progress(self) -> results.Progress:
        """How far it is."""
        return results.build(results.Progress, (self.refresh()).get("progress") or {})

    def metrics(self) -> dict[str, Any]:
        """Column arrays by metric name, with `step` and `time`."""
        found: dict[str, Any] = self._client.get(f"{exchange.API}/runs/{self.id}/metrics")
        return found

    def logs(self, *, tail: int = 1000) -> list[str]:
        """The last lines of its output so far."""
        found = self._client.get(f"{exchange.API}/runs/{self.id}/logs", tail=tail)
        return list(found["lines"])

    def stop(self) -> None:
        """Ask it to checkpoint and end."""
        self.document = self._client.post(f"{exchange.API}/runs/{self.id}/stop")

    def resume(self) -> None:
        """Go on from the last checkpoint, as the next attempt."""
        self.document = self._client.post(f"{exchange.API}/runs/{self.id}/resume")

    def ended(self, *, timeout_s: float | None = None) -> dict[str, Any]:
        """Wait until it has ended, however; gives its document. Raises TimedOut, and the run goes on."""
        looks = waiting.Looks(timeout_s)
        while (self.refresh())["state"] not in _ENDED:
            if looks.over():
                raise _timed_out(f"run {self.id}", timeout_s=timeout_s)
            waiting.pause(looks.delay_s())
        return self.document

    def wait_for_completion(
        self, timeout_s: float | None = None
    ) -> results.RunResult | results.TuningResult | results.OptimizationResult | results.Evaluation:
        """Wait until it has ended well; gives its result. Raises WorkFailed where it failed or was stopped."""
        document = self.ended(timeout_s=timeout_s)
        if document["state"] == "succeeded":
            return results.of_run(document)
        error = document.get("error") or {}
        words = error.get("detail") or error.get("reason") or f"it was {document['state']}"
        cure = error.get("cure") or f"`rlaas runs logs {self.id}` shows why; `rlaas runs resume {self.id}` goes on."
        raise WorkFailed(f"run {self.id} {document['state']}: {words}", cure=cure)


class Study(Run):
    """A study: a run with trials."""

    def trials(self) -> list[dict[str, Any]]:
        """Its trials so far, by number: state, parameters, values, the 95 % interval over seeds, seconds."""
        found = self._client.get(f"{exchange.API}/tuning/{self.id}/trials")
        return list(found["items"])

    @property
    def best(self) -> dict[str, Any] | None:
        """The best trial: of the result once there is one, until then of those that have completed; None before the first."""
        result = (self.refresh()).get("result") or {}
        if result.get("best"):
            return dict(result["best"])
        spec = self.document["spec"]
        told = spec["objective"]
        first = told if isinstance(told, str) else told[0]
        up = spec.get("maximise", True) if isinstance(first, str) else first["maximise"]
        done = [trial for trial in self.trials() if trial["state"] == "completed" and trial["feasible"] is not False]
        chosen = [trial["ci95"][0 if up else 1] if trial["ci95"] else trial["values"][0] for trial in done]
        return done[chosen.index(max(chosen) if up else min(chosen))] if done else None


class Search(Run):
    """A search: a run with a front that grows. Also a training or an evaluation that measured the front of a policy."""

    def front(self) -> results.FrontDocument:
        """What it has found so far, or its result."""
        return results.FrontDocument(self._client.get(f"{exchange.API}/optimization/{self.id}/front"))

    def choose(self, *, idempotency_key: str | None = None, **spec: Any) -> results.Choice:
        """Take a point of its front: the fields of a ChooseSpec (method, weights, targets, parties, rule, sensitivity, ...).

        Kept as an event of the run. Its `chosen` is None only between parties whose demands cannot all be met; `relax` then
        says what must give way.
        """
        path = f"{exchange.API}/optimization/{self.id}/choose"
        document = self._client.post(path, json=spec, idempotency_key=idempotency_key)
        return results.build(results.Choice, document)

    def choices(self) -> list[dict[str, Any]]:
        """The choices made on its front, newest first."""
        found = self._client.get(f"{exchange.API}/optimization/{self.id}/choices")
        return list(found["items"])

    def watch(self, *, show: notebook.Show | None = None) -> results.OptimizationResult:
        """Show its front below the cell of a notebook while it grows, then its result, which is given back.

        `show` takes the HTML each time where there is no notebook. Leaving (the stop button, Ctrl-C) leaves the search running.
        Raises WorkFailed where it failed or was stopped, Unavailable without IPython.
        """
        live = notebook.Live(show or notebook.cell())
        for event in self:
            if event.kind == "front":
                live.front(event.data)
        live.ended(self.ended())
        found = self.wait_for_completion()
        if isinstance(found, results.OptimizationResult):
            return found
        raise InvalidInput(
            f"run {self.id} is no search", given=self.kind, expected="optimize", cure="front() has its front."
        )

    def _repr_html_(self) -> str:
        """In a notebook: its result if the handle knows it, else how far it was when it was last asked."""
        return notebook.shown(self.document)


class Endpoint:
    """An endpoint. Decisions and rewards go to the fast addresses that its document names, else through the API."""

    def __init__(self, client: _Asks, document: dict[str, Any]) -> None:
        self._client = client
        self.document = document
        self.name: str = document["name"]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} epoch {self.document['epoch']}>"

    def refresh(self) -> dict[str, Any]:
        """Ask for the document anew."""
        self.document = self._client.get(f"{exchange.API}/endpoints/{self.name}")
        return self.document

    def decide(self, *, unit: str, observation: Any, **more: Any) -> results.Decision:
        """One decision. `more`: context, episode_id, step, decision_id, state_token."""
        answer = self._ask("decisions", {"unit": unit, "observation": observation, **more})
        return results.build(results.Decision, answer)

    def decide_batch(self, decisions: Sequence[Mapping[str, Any]]) -> list[results.Decision]:
        """Up to 1024 decisions in one request, each with `unit`, `observation` and what `decide` takes."""
        answer = self._ask("decisions", {"batch": list(decisions)})
        return [results.build(results.Decision, item) for item in answer["batch"]]

    def reward(self, decision_id: str, reward: float, **more: Any) -> dict[str, Any]:
        """The outcome of a decision. `more`: step, done, truncated, time."""
        found: dict[str, Any] = self._ask("rewards", {"decision_id": decision_id, "reward": reward, **more})
        return found

    def reward_batch(self, rewards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Many outcomes in one request."""
        found: dict[str, Any] = self._ask("rewards", {"batch": list(rewards)})
        return found

    def rollout(self, policy: str, **spec: Any) -> Rollout:
        """Begin a rollout with `policy` as the challenger; the rest are the fields of a RolloutSpec."""
        wanted = {"endpoint": self.name, "challenger": policy, **spec}
        document = self._client.post(f"{exchange.API}/endpoints/{self.name}/rollouts", json=wanted)
        return Rollout(self._client, document)

    def prefer(self, weights: Mapping[str, float] | None = None, /, **more: float) -> dict[str, Any]:
        """Give its policies other weights of their objectives from now on: `prefer(throughput=0.7, energy=0.3)`.

        Its champion and all else stay; objectives left out weigh 0. Raises InvalidInput for an objective that its champion does
        not have, Conflict while a rollout is open.
        """
        told = self.refresh()
        champion = next(arm["version"] for arm in told["table"]["arms"] if arm["role"] == "champion")
        wanted = {**told["spec"], "champion": champion, "preference": {**(weights or {}), **more}}
        self.document = self._client.send("PUT", f"{exchange.API}/endpoints/{self.name}", json=wanted)
        return self.document

    def history(self, *, limit: int | None = 50) -> list[dict[str, Any]]:
        """Its route tables, newest first, each with who changed it and why."""
        return self._client.pages(f"{exchange.API}/endpoints/{self.name}/history", limit=limit)

    def delete(self) -> None:
        """Take it down; its decision log stays."""
        self._client.send("DELETE", f"{exchange.API}/endpoints/{self.name}")

    def _ask(self, noun: str, body: Mapping[str, Any]) -> Any:
        answer, url = self._client.decide(self._addresses(), f"/v1/endpoints/{self.name}/{noun}", json=body)
        self._last = url
        return answer

    _last: str | None = None

    def _addresses(self) -> list[str]:
        """The address that answered last first; then native listeners, Serve's ingress, the API, which forwards."""
        if self._client.in_process:
            return [self._client.url]
        known = self.document.get("addresses") or {}
        found = [*(known.get("native") or []), known.get("ingress"), self._client.url]
        urls = [url.rstrip("/") for url in found if url]
        return sorted(urls, key=lambda url: url != self._last)


class Rollout:
    """The staged change of an endpoint's shares."""

    def __init__(self, client: _Asks, document: dict[str, Any]) -> None:
        self._client = client
        self.document = document
        self.id: str = document["id"]
        self.endpoint: str = document["endpoint"]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} of {self.endpoint}: {self.document['state']}>"

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Its document each time that state, stage or verdict changed, until it is closed."""
        looks = waiting.Looks(None)
        seen: tuple[Any, ...] | None = None
        while True:
            document = self.refresh()
            now = (document["state"], document.get("stage"), document.get("epoch"), document.get("verdict"))
            if now != seen:
                seen, looks = now, waiting.Looks(None)
                yield document
            if document["state"] in _CLOSED:
                return
            waiting.pause(looks.delay_s())

    @property
    def status(self) -> str:
        """Its state now."""
        return str((self.refresh())["state"])

    def refresh(self) -> dict[str, Any]:
        """Ask for the document anew."""
        self.document = self._client.get(self._path)
        return self.document

    def evidence(self) -> list[dict[str, Any]]:
        """The evidence of each tick so far, oldest first."""
        found = self._client.get(f"{self._path}/evidence")
        return list(found["items"])

    def promote(self, *, reason: str | None = None) -> dict[str, Any]:
        """Make the challenger champion now, against or before the evidence; it is written down who did."""
        self.document = self._client.post(f"{self._path}/promote", json=_reason(reason))
        return self.document

    def abort(self, *, reason: str | None = None) -> dict[str, Any]:
        """Give all traffic back to the champion."""
        self.document = self._client.post(f"{self._path}/abort", json=_reason(reason))
        return self.document

    def wait_for_completion(self, timeout_s: float | None = None) -> dict[str, Any]:
        """Wait until it is closed; gives its document, with the verdict. Raises TimedOut, and it goes on."""
        looks = waiting.Looks(timeout_s)
        while (self.refresh())["state"] not in _CLOSED:
            if looks.over():
                raise _timed_out(f"rollout {self.id}", timeout_s=timeout_s)
            waiting.pause(looks.delay_s())
        return self.document

    @property
    def _path(self) -> str:
        return f"{exchange.API}/endpoints/{self.endpoint}/rollouts/{self.id}"


def run_of(client: _Asks, document: dict[str, Any]) -> Run:
    """The handle that fits the run's kind."""
    kinds: dict[str, type[Run]] = {"tune": Study, "optimize": Search}
    result = document.get("result") or {}
    if "preferences" in result or "front" in (result.get("evaluation") or {}):
        return Search(client, document)
    return kinds.get(document["kind"], Run)(client, document)


def _reason(text: str | None) -> dict[str, str]:
    return {"reason": text} if text else {}


def _timed_out(what: str, *, timeout_s: float | None) -> TimedOut:
    return TimedOut(f"{what} has not ended", given=f"timeout_s={timeout_s}", cure="It goes on; wait again, or stop it.")
