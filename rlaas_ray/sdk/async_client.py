"""The asynchronous client: one connection pool to one control API, and the nouns that hang on it.

Made by users (through `rlaas.sdk`), the CLI and the console. It talks HTTP, over a network or to an app in this process,
and never knows which. Errors are the classes of `errors.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx

from rlaas_ray.errors import InvalidInput
from rlaas_ray.sdk import async_handles, environment, exchange, results


class AsyncRLaaSClient:
    """`AsyncRLaaSClient("http://localhost:8000", api_key=...)`; without them RLAAS_URL and RLAAS_API_KEY are read."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = (url or environment.url()).rstrip("/")
        self.in_process = transport is not None
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers=exchange.headers(api_key or environment.api_key()),
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0)),
            transport=transport or httpx.AsyncHTTPTransport(retries=1),
            trust_env=False,
        )
        self.runs = AsyncRuns(self)
        self.training = AsyncTraining(self)
        self.tuning = AsyncTuning(self)
        self.optimization = AsyncOptimization(self)
        self.evaluations = AsyncEvaluations(self)
        self.models = AsyncModels(self)
        self.endpoints = AsyncEndpoints(self)
        self.rollouts = AsyncRollouts(self)
        self.keys = AsyncKeys(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def health(self) -> dict[str, Any]:
        """What `/health` says."""
        found: dict[str, Any] = await self.get("/health")
        return found

    async def get(self, path: str, **params: Any) -> Any:
        """GET `path`; parameters that are None are left out."""
        return await self.send("GET", path, params={k: v for k, v in params.items() if v is not None})

    async def post(self, path: str, *, json: Any = None, idempotency_key: str | None = None) -> Any:
        """POST that may be sent again without doing its work twice."""
        return await self.send("POST", path, json=json if json is not None else {}, idempotency_key=idempotency_key)

    async def send(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """Any request of the control API; gives the JSON of the answer or raises what it states."""
        headers = exchange.creating(idempotency_key) if method == "POST" else {"Content-Type": "application/json"}
        content = None if json is None else exchange.body(json)
        try:
            response = await self._http.request(
                method, path, content=content, params=params or None, headers=headers if content is not None else None
            )
        except httpx.HTTPError as error:
            raise exchange.unreachable(error, url=self.url) from error
        return exchange.answer(response)

    async def download(self, path: str, target: Path) -> Path:
        """GET bytes into a file, which is there whole or not at all."""
        part = target.with_name(f"{target.name}.part")
        try:
            async with self._http.stream("GET", path) as response:
                if not response.is_success:
                    await response.aread()
                    raise exchange.error_of(response)
                with part.open("wb") as file:
                    async for chunk in response.aiter_bytes():
                        file.write(chunk)
        except httpx.HTTPError as error:
            part.unlink(missing_ok=True)
            raise exchange.unreachable(error, url=self.url) from error
        return part.replace(target)

    async def decide(self, urls: Sequence[str], path: str, *, json: Any) -> tuple[Any, str]:
        """POST to the first of `urls` that can be reached; gives the answer and the address that gave it."""
        content = exchange.body(json)
        for url in urls:
            try:
                response = await self._http.post(
                    url + path, content=content, headers={"Content-Type": "application/json"}
                )
            except httpx.HTTPError as error:
                if exchange.unsent(error) and url != urls[-1]:
                    continue
                raise exchange.unreachable(error, url=url) from error
            return exchange.answer(response), url
        raise InvalidInput("no address to ask", given=list(urls))

    async def events(self, run_id: str, *, after: int = 0) -> AsyncIterator[exchange.Event]:
        """The events of a run beyond `after`, as they come, until it ends; broken streams are taken up where they broke."""
        seen = after
        while True:
            try:
                async with self._http.stream(
                    "GET",
                    f"{exchange.API}/runs/{run_id}/events",
                    headers={"Accept": "text/event-stream", "Last-Event-ID": str(seen)},
                    timeout=httpx.Timeout(60.0, connect=5.0),  # the API sends a comment each 15 s
                ) as response:
                    if not response.is_success:
                        await response.aread()
                        raise exchange.error_of(response)
                    lines = exchange.EventLines()
                    async for line in response.aiter_lines():
                        for event in lines.feed(line):
                            seen = event.seq or seen
                            yield event
                            if event.kind == "end":
                                return
            except httpx.RemoteProtocolError:
                continue
            except httpx.HTTPError as error:
                raise exchange.unreachable(error, url=self.url) from error

    async def pages(self, path: str, *, limit: int | None, **params: Any) -> list[dict[str, Any]]:
        """The items of a list, newest first, over as many pages as `limit` (None: all) needs."""
        items: list[dict[str, Any]] = []
        cursor: str | None = None
        while limit is None or len(items) < limit:
            size = 200 if limit is None else min(200, limit - len(items))
            page = await self.get(path, limit=size, cursor=cursor, **params)
            items += page["items"]
            cursor = page.get("next_cursor")
            if cursor is None:
                break
        return items


class AsyncRuns:
    """All runs, of every kind."""

    def __init__(self, client: AsyncRLaaSClient) -> None:
        self._client = client

    async def get(self, run_id: str) -> async_handles.AsyncRun:
        """The run of this id; a study where it is one."""
        return async_handles.run_of(self._client, await self._client.get(f"{exchange.API}/runs/{run_id}"))

    async def list(
        self, *, limit: int | None = 50, kind: str | None = None, state: str | None = None
    ) -> list[dict[str, Any]]:
        """Runs, newest first."""
        return await self._client.pages(f"{exchange.API}/runs", limit=limit, kind=kind, state=state)

    async def started(
        self, kind: str, spec: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> async_handles.AsyncRun:
        """Start a run of `kind` (train, tune, optimize, evaluate)."""
        path = f"{exchange.API}/{exchange.RUN_PATHS[kind]}"
        document = await self._client.post(path, json=dict(spec), idempotency_key=idempotency_key)
        return async_handles.run_of(self._client, document)


class AsyncTraining:
    """Trainings."""

    def __init__(self, client: AsyncRLaaSClient) -> None:
        self._client = client

    async def start(
        self, *, training_type: str = "reinforcement_learning", idempotency_key: str | None = None, **spec: Any
    ) -> async_handles.AsyncRun:
        """Start a training: the fields of a TrainSpec, or `dataset` and `hyperparameters` for `env` and the rest."""
        if training_type != "reinforcement_learning":
            raise InvalidInput("training_type", given=training_type, expected="reinforcement_learning")
        return await self._client.runs.started("train", spec, idempotency_key=idempotency_key)

    async def get(self, run_id: str) -> async_handles.AsyncRun:
        """The training of this id."""
        return await self._client.runs.get(run_id)

    async def list(self, *, limit: int | None = 50) -> list[dict[str, Any]]:
        """Trainings, newest first."""
        return await self._client.pages(f"{exchange.API}/training", limit=limit)


class AsyncTuning:
    """Studies: searches over what trainings take."""

    def __init__(self, client: AsyncRLaaSClient) -> None:
        self._client = client

    async def start(self, *, idempotency_key: str | None = None, **spec: Any) -> async_handles.AsyncStudy:
        """Start a study: the fields of a TuneSpec, `space` and `train` (or `function`) at least."""
        path = f"{exchange.API}/{exchange.RUN_PATHS['tune']}"
        document = await self._client.post(path, json=spec, idempotency_key=idempotency_key)
        return async_handles.AsyncStudy(self._client, document)

    async def get(self, run_id: str) -> async_handles.AsyncStudy:
        """The study of this id."""
        return async_handles.AsyncStudy(self._client, await self._client.get(f"{exchange.API}/tuning/{run_id}"))

    async def list(self, *, limit: int | None = 50) -> list[dict[str, Any]]:
        """Studies, newest first."""
        return await self._client.pages(f"{exchange.API}/tuning", limit=limit)


class AsyncOptimization:
    """Searches for a front."""

    def __init__(self, client: AsyncRLaaSClient) -> None:
        self._client = client

    async def start(
        self, *, problem_type: str, idempotency_key: str | None = None, **spec: Any
    ) -> async_handles.AsyncSearch:
        """Start a search: `problem_type` names the problem, the rest are the fields of an OptimizeSpec."""
        path = f"{exchange.API}/{exchange.RUN_PATHS['optimize']}"
        document = await self._client.post(
            path, json={"problem": problem_type, **spec}, idempotency_key=idempotency_key
        )
        return async_handles.AsyncSearch(self._client, document)

    async def get(self, run_id: str) -> async_handles.AsyncSearch:
        """The search of this id."""
        document = await self._client.get(f"{exchange.API}/optimization/{run_id}")
        return async_handles.AsyncSearch(self._client, document)

    async def front(self, run_id: str) -> results.FrontDocument:
        """The front of a search: what it has found so far, or its result."""
        return results.FrontDocument(await self._client.get(f"{exchange.API}/optimization/{run_id}/front"))

    async def choose(self, run_id: str, *, idempotency_key: str | None = None, **spec: Any) -> results.Choice:
        """Take a point of the front of a search; the same as `choose` of its handle."""
        search = await self.get(run_id)
        return await search.choose(idempotency_key=idempotency_key, **spec)

    async def list(self, *, limit: int | None = 50) -> list[dict[str, Any]]:
        """Searches, newest first."""
        return await self._client.pages(f"{exchange.API}/optimization", limit=limit)


class AsyncEvaluations:
    """Evaluations of policies."""

    def __init__(self, client: AsyncRLaaSClient) -> None:
        self._client = client

    async def start(
        self, *, policy: str, env: str, idempotency_key: str | None = None, **spec: Any
    ) -> async_handles.AsyncRun:
        """Start an evaluation of `policy` on `env`."""
        wanted = {"policy": policy, "env": env, **spec}
        return await self._client.runs.started("evaluate", wanted, idempotency_key=idempotency_key)

    async def list(self, *, limit: int | None = 50) -> list[dict[str, Any]]:
        """Evaluations, newest first."""
        return await self._client.pages(f"{exchange.API}/evaluations", limit=limit)


class AsyncModels:
    """Registered versions."""

    def __init__(self, client: AsyncRLaaSClient) -> None:
        self._client = client

    async def versions(self, name: str, *, limit: int | None = 50) -> list[dict[str, Any]]:
        """All versions of a name, newest first."""
        return await self._client.pages(f"{exchange.API}/models/{name}/versions", limit=limit)

    async def list(self, *, limit: int | None = 50) -> list[dict[str, Any]]:
        """The newest version of each name, newest first."""
        return await self._client.pages(f"{exchange.API}/models", limit=limit)

    async def get(self, reference: str) -> dict[str, Any]:
        """The version that NAME, NAME:3 or NAME@alias means."""
        found: dict[str, Any] = await self._client.get(f"{exchange.API}/models/{reference}")
        return found

    async def register(self, path: str, *, name: str | None = None) -> dict[str, Any]:
        """Register the bundle that lies at `path`, on the server's disk, by `name` or the name in its manifest."""
        body = {"path": path} if name is None else {"path": path, "name": name}
        found: dict[str, Any] = await self._client.post(f"{exchange.API}/models/import", json=body)
        return found

    async def alias(self, reference: str, alias: str) -> dict[str, Any]:
        """Let `alias` mean the version that `reference` means now."""
        found: dict[str, Any] = await self._client.send(
            "PUT", f"{exchange.API}/models/{reference}/aliases/{alias}", json={}
        )
        return found

    async def verify(self, reference: str) -> dict[str, Any]:
        """Read the bundle again, every digest and the parity certificate; raises Tampered naming what is wrong."""
        found: dict[str, Any] = await self._client.post(f"{exchange.API}/models/{reference}/verify")
        return found

    async def export(self, reference: str, to: Path) -> Path:
        """The bundle of a version as one .tar.zst at `to`."""
        return await self._client.download(f"{exchange.API}/models/{reference}/bundle", to)

    async def delete(self, reference: str) -> None:
        """Delete a version that no endpoint uses."""
        await self._client.send("DELETE", f"{exchange.API}/models/{reference}")


class AsyncEndpoints:
    """Decision points."""

    def __init__(self, client: AsyncRLaaSClient) -> None:
        self._client = client

    async def create(self, name: str, *, policy: str, **spec: Any) -> async_handles.AsyncEndpoint:
        """Make an endpoint with `policy` as its champion, or replace the champion of the one that is there."""
        wanted = {"name": name, "champion": policy, **spec}
        return async_handles.AsyncEndpoint(
            self._client, await self._client.send("PUT", f"{exchange.API}/endpoints/{name}", json=wanted)
        )

    async def get(self, name: str) -> async_handles.AsyncEndpoint:
        """The endpoint of this name."""
        return async_handles.AsyncEndpoint(self._client, await self._client.get(f"{exchange.API}/endpoints/{name}"))

    async def list(self, *, limit: int | None = 50) -> list[dict[str, Any]]:
        """Endpoints, newest first."""
        return await self._client.pages(f"{exchange.API}/endpoints", limit=limit)


class AsyncRollouts:
    """Rollouts, found again by endpoint and id."""

    def __init__(self, client: AsyncRLaaSClient) -> None:
        self._client = client

    async def get(self, endpoint: str, rollout_id: str | None = None) -> async_handles.AsyncRollout:
        """A rollout of an endpoint; without an id the newest one."""
        if rollout_id is None:
            items = await self.list(endpoint, limit=1)
            if not items:
                raise InvalidInput(
                    f"endpoint {endpoint!r} has had no rollout", cure="`rlaas rollout start` begins one."
                )
            rollout_id = str(items[0]["id"])
        path = f"{exchange.API}/endpoints/{endpoint}/rollouts/{rollout_id}"
        return async_handles.AsyncRollout(self._client, await self._client.get(path))

    async def list(self, endpoint: str, *, limit: int | None = 50) -> list[dict[str, Any]]:
        """Rollouts of an endpoint, newest first."""
        return await self._client.pages(f"{exchange.API}/endpoints/{endpoint}/rollouts", limit=limit)


class AsyncKeys:
    """API keys."""

    def __init__(self, client: AsyncRLaaSClient) -> None:
        self._client = client

    async def create(
        self, *, roles: Sequence[str], note: str | None = None, expires_s: float | None = None
    ) -> dict[str, Any]:
        """Make a key; its secret is in this answer and never again."""
        wanted = {"roles": list(roles), "note": note, "expires_s": expires_s}
        body = {name: value for name, value in wanted.items() if value is not None}
        found: dict[str, Any] = await self._client.post(f"{exchange.API}/keys", json=body)
        return found

    async def list(self, *, limit: int | None = 50) -> list[dict[str, Any]]:
        """Keys without their secrets."""
        return await self._client.pages(f"{exchange.API}/keys", limit=limit)

    async def revoke(self, key_id: str) -> None:
        """End a key; it is refused everywhere within 10 s."""
        await self._client.send("DELETE", f"{exchange.API}/keys/{key_id}")
