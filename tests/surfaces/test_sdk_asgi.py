"""The in-process transport: streams as it comes, runs the lifespan, tells the app when nobody listens any more."""

import asyncio
import threading
import time

import httpx
import pytest

from rlaas_ray.sdk import asgi


class App:
    """A bare ASGI app that answers by path."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.disconnected = threading.Event()

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                assert (await receive())["type"] == f"lifespan.{phase}"
                self.phases.append(phase)
                await send({"type": f"lifespan.{phase}.complete"})
            return
        await getattr(self, scope["path"].strip("/"))(scope, receive, send)

    async def echo(self, scope, receive, send) -> None:
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 201, "headers": [(b"x-method", scope["method"].encode())]})
        await send({"type": "http.response.body", "body": body + b"?" + scope["query_string"]})

    async def slow(self, scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(3):
            await send({"type": "http.response.body", "body": b"%d\n" % number, "more_body": True})
            await asyncio.sleep(0.2)
        await send({"type": "http.response.body", "body": b""})

    async def endless(self, scope, receive, send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first\n", "more_body": True})
        assert (await receive())["type"] == "http.disconnect"
        self.disconnected.set()

    async def broken(self, scope, receive, send) -> None:
        raise LookupError("a fault of the app")

    async def silent(self, scope, receive, send) -> None:
        return


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def client(app: App):
    with httpx.Client(transport=asgi.AsgiTransport(app), base_url="http://app") as made:
        yield made


def test_a_request_reaches_the_app_whole_and_its_answer_comes_back(client) -> None:
    answer = client.put("/echo?a=1", content=b"body")
    assert (answer.status_code, answer.headers["x-method"], answer.content) == (201, "PUT", b"body?a=1")


def test_the_lifespan_is_entered_once_and_left_at_the_end(app: App) -> None:
    with httpx.Client(transport=asgi.AsgiTransport(app), base_url="http://app") as client:
        client.get("/echo")
        client.get("/echo")
        assert app.phases == ["startup"]
    assert app.phases == ["startup", "shutdown"]


def test_an_answer_is_read_while_it_is_still_being_made(client) -> None:
    began, times = time.monotonic(), []
    with client.stream("GET", "/slow") as answer:
        times.extend((line, time.monotonic() - began) for line in answer.iter_lines())
    assert [line for line, _ in times] == ["0", "1", "2"]
    assert times[0][1] < 0.15
    assert times[2][1] > 0.35


def test_whoever_stops_reading_is_a_disconnect_for_the_app(client, app: App) -> None:
    with client.stream("GET", "/endless") as answer:
        assert next(answer.iter_lines()) == "first"
    assert app.disconnected.wait(2)


def test_what_the_app_raises_comes_out_of_the_request(client) -> None:
    with pytest.raises(LookupError, match="a fault of the app"):
        client.get("/broken")
    with pytest.raises(httpx.RemoteProtocolError, match="no answer"):
        client.get("/silent")


def test_a_start_that_fails_says_why() -> None:
    async def failing(scope, receive, send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "the database is newer than this program"})

    transport = asgi.AsgiTransport(failing)
    with pytest.raises(RuntimeError, match="newer than this program"):
        transport.start()
    transport.close()


def test_the_async_transport_streams_as_well(app: App) -> None:
    async def first() -> str:
        transport = asgi.AsyncAsgiTransport(app)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://app") as client,
            client.stream("GET", "/endless") as answer,
        ):
            async for line in answer.aiter_lines():
                return line
        return ""

    assert asyncio.run(first()) == "first"
    assert app.phases == ["startup", "shutdown"]
