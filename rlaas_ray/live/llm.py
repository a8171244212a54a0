"""A language model behind an OpenAI-compatible endpoint, and the stream agent that asks one when it has a key.

`rlaas.stream` re-exports the agent. The key goes to the configured host alone: no redirect is followed, no proxy of the
environment is used, nothing is logged. Whatever fails is a reason in a word, never a hang: every call has a deadline.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx

from rlaas_ray.errors import InvalidInput, Unavailable
from rlaas_ray.live import environment
from rlaas_ray.policies.lastream import agent, generators
from rlaas_ray.specs.seams import ChatModel, Clock

BASE_URL, MODEL = "https://api.deepseek.com", "deepseek-chat"
MOST_BYTES = 256 * 1024
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_BY_STATUS = {401: "unauthorized", 403: "unauthorized", 429: "rate_limited"}


class _Answer(NamedTuple):
    status: int
    retry_after: str
    body: bytes


class ChatClient(ChatModel):
    """POST {base_url}/chat/completions. `api_key` None sends no Authorization, for endpoints of one's own.

    `max_retries` is how often a 429 is tried again, and only where its Retry-After fits the deadline.
    """

    def __init__(
        self,
        base_url: str = BASE_URL,
        *,
        model: str = MODEL,
        api_key: str | None = None,
        timeout_s: float = 10.0,
        max_retries: int = 1,
        clock: Clock | None = None,
    ) -> None:
        self._url = f"{_checked(base_url, api_key=api_key)}/chat/completions"
        self._model, self._api_key = model, api_key
        self._timeout_s, self._max_retries = timeout_s, max_retries
        self._clock = clock or environment.WallClock()

    def __repr__(self) -> str:
        return f"ChatClient({self._url!r}, model={self._model!r})"  # never the key

    def complete(
        self, messages: Sequence[Mapping[str, str]], *, temperature: float, max_tokens: int, deadline_s: float
    ) -> str:
        """The content of the first choice. Raises Unavailable, its `given` the reason."""
        until_s = self._clock.monotonic_s() + deadline_s
        body = {
            "model": self._model,
            "messages": [dict(message) for message in messages],
            "temperature": temperature,
            "max_tokens": max_tokens,
            "response_format": {"type": "json_object"},
        }
        for _ in range(self._max_retries):
            answer = self._posted(body, until_s=until_s)
            wait_s = _wait_s(answer)
            if wait_s is None or wait_s >= until_s - self._clock.monotonic_s():
                break
            self._clock.sleep(wait_s)
        else:
            answer = self._posted(body, until_s=until_s)
        return _content(answer)

    def _posted(self, body: Mapping[str, Any], *, until_s: float) -> _Answer:
        """One request, its answer read to the end. Raises Unavailable: timeout, connection, too_large.

        In a thread of its own, left behind where it takes too long: httpx bounds each read, not their sum, nor the look-up of
        a name.
        """
        timeout_s = min(self._timeout_s, until_s - self._clock.monotonic_s())
        if timeout_s <= 0:
            raise _failed("timeout")
        found: list[_Answer | Unavailable] = []

        def work() -> None:
            try:
                found.append(self._exchanged(body, timeout_s=timeout_s))
            except Unavailable as error:
                found.append(error)

        worker = threading.Thread(target=work, name="rlaas-llm", daemon=True)
        worker.start()
        worker.join(timeout_s)
        outcome = found[0] if found else _failed("timeout")
        if isinstance(outcome, Unavailable):
            raise outcome
        return outcome

    def _exchanged(self, body: Mapping[str, Any], *, timeout_s: float) -> _Answer:
        headers = {"Accept-Encoding": "identity"}
        if self._api_key is not None:
            headers["Authorization"] = f"Bearer {self._api_key}"
        limit_s = self._clock.monotonic_s() + timeout_s
        client = httpx.Client(follow_redirects=False, trust_env=False, timeout=timeout_s)
        try:
            with client, client.stream("POST", self._url, json=body, headers=headers) as answer:
                read = bytearray()
                for part in answer.iter_bytes():
                    read += part
                    if len(read) > MOST_BYTES:
                        raise _failed("too_large")
                    if self._clock.monotonic_s() > limit_s:
                        raise _failed("timeout")
                return _Answer(answer.status_code, answer.headers.get("Retry-After", ""), bytes(read))
        except httpx.TimeoutException:
            raise _failed("timeout") from None
        except (httpx.HTTPError, httpx.InvalidURL):
            raise _failed("connection") from None


class StreamProcessingRLAgent(agent.StreamAgent):
    """The agent of dataflows, with a generator made from the key: see `agent.StreamAgent` for everything else.

    `deepseek_api_key` None takes DEEPSEEK_API_KEY; RLAAS_LLM_BASE_URL and RLAAS_LLM_MODEL name another OpenAI-compatible endpoint
    (with a base URL of one's own no key is needed). Without either, and with `deepseek_api_key=""`, candidates are made offline.
    `deepseek_config` takes `max_parallelism` and, for the model, `base_url`, `model`, `timeout_s`, `max_retries`, `temperature`,
    `max_tokens`.
    """

    def __init__(  # noqa: PLR0913  # the published signature
        self,
        deepseek_api_key: str | None = None,
        *,
        gcn_config: Mapping[str, Any] | None = None,
        deepseek_config: Mapping[str, Any] | None = None,
        action_evaluator_config: Mapping[str, Any] | None = None,
        experience_buffer_size: int = 3000,
        device: str = "cpu",
        pretrained_model_path: str | Path | None = None,
        generator: generators.Generator | None = None,
        seed: int = 0,
    ) -> None:
        own = dict(deepseek_config or {})
        limit = own.pop("max_parallelism", agent.MAX_PARALLELISM)
        made = generator_of(deepseek_api_key, config=own)
        super().__init__(
            max_parallelism=limit,
            gcn_config=gcn_config,
            action_evaluator_config=action_evaluator_config,
            experience_buffer_size=experience_buffer_size,
            device=device,
            pretrained_model_path=pretrained_model_path,
            generator=generator or made,
            seed=seed,
        )


def generator_of(
    api_key: str | None, *, config: Mapping[str, Any] | None = None, clock: Clock | None = None
) -> generators.Generator:
    """The generator that a key means: a model's, or the offline one where there is neither key nor endpoint."""
    told = dict(config or {})
    known = {"base_url", "model", "timeout_s", "max_retries", "temperature", "max_tokens"}
    unknown = sorted(set(told) - known)
    if unknown:
        raise InvalidInput("deepseek_config", given=unknown[0], expected=f"max_parallelism, {', '.join(sorted(known))}")
    asks = {name: told.pop(name) for name in ("temperature", "max_tokens") if name in told}
    own_url = told.pop("base_url", None) or environment.llm_base_url()
    key = environment.llm_key() if api_key is None else api_key
    if api_key == "" or (not key and own_url is None):
        return generators.OfflineGenerator()
    clock = clock or environment.WallClock()
    model = told.pop("model", None) or environment.llm_model() or MODEL
    client = ChatClient(own_url or BASE_URL, model=model, api_key=key or None, clock=clock, **told)
    return generators.LLMGenerator(client, clock=clock, **asks)


def _checked(base_url: str, *, api_key: str | None) -> str:
    """The URL without its last slash. Raises InvalidInput for one that would send the key in the clear."""
    parts = urlsplit(base_url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
        raise InvalidInput("base_url of the model", given=parts.hostname, expected="https://HOST[/PATH]")
    if parts.scheme == "http" and api_key is not None and parts.hostname not in _LOOPBACK:
        raise InvalidInput(
            "base_url of the model",
            given=f"http://{parts.hostname}",
            expected="https, for a key goes with it",
            cure="Use https, or an endpoint on this machine.",
        )
    return base_url.rstrip("/")


def _wait_s(answer: _Answer) -> float | None:
    """Seconds that a 429 asks for; None for every other answer, and where it names no plain number of seconds."""
    told = answer.retry_after
    return float(told) if answer.status == 429 and told.isascii() and told.isdigit() and len(told) < 6 else None


def _content(answer: _Answer) -> str:
    status = answer.status
    if status != 200:
        family = {3: "redirected", 5: "server_error"}.get(status // 100, "refused")
        raise _failed(_BY_STATUS.get(status, family))
    try:
        content = json.loads(answer.body)["choices"][0]["message"]["content"]
    except (ValueError, RecursionError, KeyError, IndexError, TypeError):
        raise _failed("malformed") from None
    if not isinstance(content, str):
        raise _failed("malformed")
    return content


def _failed(reason: str) -> Unavailable:
    return Unavailable(
        "the language model", given=reason, expected="an answer in time", cure="Candidates go on offline."
    )
