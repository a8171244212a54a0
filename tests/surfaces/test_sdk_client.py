"""The client against the product's own API in this process, in both faces; runs are reported by the real reporter."""

import asyncio
import threading
import time
from pathlib import Path

import pytest

from rlaas.sdk import AsyncRLaaSClient, RLaaSClient, errors
from rlaas_ray import wiring
from rlaas_ray.sdk import asgi, reporter
from rlaas_ray.settings import Settings, SystemClock
from rlaas_ray.specs.runs import Progress

URL = "http://127.0.0.1"
RANDOM = "baseline:CartPole-v1/random"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def transport(home: Path):
    made = asgi.AsgiTransport(wiring.in_process(Settings(home=home)))
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def key(home: Path, transport) -> str:
    return (home / "admin-key").read_text().strip()


@pytest.fixture(scope="module")
def client(transport, key: str) -> RLaaSClient:
    return RLaaSClient(URL, api_key=key, transport=transport)


def reported(transport, key: str, *, run, home: Path) -> reporter.HttpReporter:
    """The attempt of a run, claimed."""
    own = reporter.connect(URL, api_key=key, transport=transport)
    made = reporter.HttpReporter(
        client=own, run_id=run.id, attempt=1, directory=home / "runs" / run.id, clock=SystemClock(), background=False
    )
    assert made.claim().spec["env"] == "CartPole-v1"
    return made


def test_a_training_is_followed_from_start_to_result(client, transport, key, home) -> None:
    run = client.training.start(
        algorithm="ppo", dataset="CartPole-v1", hyperparameters={"total_timesteps": 100}, seed=3
    )
    assert run.status == "queued"
    told = reported(transport, key, run=run, home=home)
    assert told.beat(Progress(fraction=0.5, steps=50, steps_total=100)) == "running"
    assert (run.status, run.progress().steps) == ("running", 50)
    told.event("iteration", {"number": 1})
    told.metrics(
        [
            {"step": 50, "time_us": 1, "episode_return_mean": None},
            {"step": 100, "time_us": 2, "episode_return_mean": 9.5},
        ]
    )
    told.finish("succeeded", result={"steps": 100, "version": {"name": "cart", "number": 1}})
    result = run.wait_for_completion(timeout_s=5)
    assert (result.state, result.version["name"], result.raw["steps"]) == ("succeeded", "cart", 100)
    assert run.metrics()["episode_return_mean"] == [None, 9.5]
    kinds = [event.kind for event in run]
    assert "iteration" in kinds
    assert kinds[-1] == "end"
    assert run.document["spec"]["seed"] == 3


def test_a_failed_run_raises_its_words_and_how_to_go_on(client, transport, key, home) -> None:
    run = client.training.start(env="CartPole-v1", total_timesteps=100)
    told = reported(transport, key, run=run, home=home)
    told.finish("failed", error={"detail": "the env returned NaN", "cure": "Mend the env."})
    with pytest.raises(errors.WorkFailed, match="the env returned NaN") as caught:
        run.wait_for_completion(timeout_s=5)
    assert caught.value.cure == "Mend the env."


def test_waiting_ends_with_the_timeout_and_the_run_goes_on(client) -> None:
    run = client.training.start(env="CartPole-v1", total_timesteps=100)
    with pytest.raises(errors.TimedOut, match=run.id):
        run.wait_for_completion(timeout_s=0.1)
    run.stop()
    assert run.status == "stopped"


def test_an_event_arrives_while_the_run_goes_on(client, transport, key, home) -> None:
    run = client.training.start(env="CartPole-v1", total_timesteps=100)
    told = reported(transport, key, run=run, home=home)
    seen: list[tuple[str, float]] = []

    def read() -> None:
        seen.extend((event.kind, time.monotonic()) for event in run)

    reader = threading.Thread(target=read)
    reader.start()
    told.event("iteration", {"number": 1})
    told.pump()
    sent = time.monotonic()
    while "iteration" not in [kind for kind, _ in seen] and time.monotonic() - sent < 5:
        time.sleep(0.02)
    assert dict(seen)["iteration"] - sent < 1.0
    told.finish("succeeded")
    reader.join(5)
    assert seen[-1][0] == "end"


def test_the_same_request_twice_is_one_run(client) -> None:
    first = client.training.start(env="CartPole-v1", total_timesteps=100, idempotency_key="once-1")
    assert client.training.start(env="CartPole-v1", total_timesteps=100, idempotency_key="once-1").id == first.id
    assert client.training.start(env="CartPole-v1", total_timesteps=100).id != first.id


def test_errors_are_classes_with_pointer_and_cure(client) -> None:
    with pytest.raises(errors.UnknownField) as caught:
        client.training.start(env="CartPole-v1", learning_rat=1e-3)
    assert "learning_rate" in caught.value.cure
    with pytest.raises(errors.NotFound):
        client.runs.get("train-zzzzzzzzzz")
    with pytest.raises(errors.NotFound):
        client.endpoints.get("nowhere")
    with pytest.raises(errors.InvalidInput, match="training_type"):
        client.training.start(training_type="supervised", env="CartPole-v1")


def test_a_wrong_key_is_refused(transport) -> None:
    with pytest.raises(errors.Unauthorized):
        RLaaSClient(URL, api_key="rlk_aaaaaaaa_wrong", transport=transport).runs.list()


def test_an_endpoint_is_made_shown_and_has_a_history(client) -> None:
    endpoint = client.endpoints.create("cart", policy=RANDOM, assign_by="episode")
    assert endpoint.document["spec"]["assign_by"] == "episode"
    assert len(endpoint.document["example"]) == 4
    assert [item["name"] for item in client.endpoints.list()] == ["cart"]
    assert len(endpoint.history()) == 1
    assert client.models.versions("baseline-CartPole-v1-random")[0]["number"] == 1


def test_a_version_is_verified_named_and_exported(client, tmp_path) -> None:
    client.endpoints.create("cart", policy=RANDOM)
    name = "baseline-CartPole-v1-random"
    assert client.models.verify(f"{name}:1")["verified"] is True
    assert client.models.alias(f"{name}:1", "champion")["aliases"] == ["champion"]
    assert client.models.get(f"{name}@champion")["number"] == 1
    packed = client.models.export(name, tmp_path / "b.tar.zst")
    assert client.models.register(str(packed))["number"] == 1  # the same bytes are the same version
    with pytest.raises(errors.NotFound):
        client.models.export("nobody", tmp_path / "n.tar.zst")
    assert [path.name for path in tmp_path.iterdir()] == ["b.tar.zst"]


def test_a_key_is_made_shown_once_and_revoked(client, transport) -> None:
    made = client.keys.create(roles=["viewer"], note="a screen")
    viewer = RLaaSClient(URL, api_key=made["secret"], transport=transport)
    assert viewer.endpoints.list() is not None
    with pytest.raises(errors.Forbidden):
        viewer.keys.list()
    assert made["secret"] not in str(client.keys.list())
    client.keys.revoke(made["id"])


def test_pages_are_walked_to_the_end(client) -> None:
    for _ in range(3):
        client.training.start(env="CartPole-v1", total_timesteps=100)
    every = client.runs.list(limit=None)
    assert client.runs.list(limit=2) == every[:2]
    assert len({run["id"] for run in every}) == len(every)


def test_the_async_face_does_the_same(home) -> None:
    async def story() -> str:
        made = asgi.AsyncAsgiTransport(wiring.in_process(Settings(home=home)))
        await made.start()
        async with AsyncRLaaSClient(URL, api_key=(home / "admin-key").read_text().strip(), transport=made) as client:
            run = await client.training.start(env="CartPole-v1", total_timesteps=100)
            await run.stop()
            kinds = [event.kind async for event in run]
            assert kinds[-1] == "end"
            with pytest.raises(errors.WorkFailed, match="stopped"):
                await run.wait_for_completion(timeout_s=5)
            return await run.status

    assert asyncio.run(story()) == "stopped"


def test_nothing_that_answers_is_an_error_with_its_cure() -> None:
    with pytest.raises(errors.Unavailable, match=r"127\.0\.0\.1:9") as caught:
        RLaaSClient("http://127.0.0.1:9").runs.list()
    assert "rlaas up" in caught.value.cure


def test_the_address_and_the_key_come_from_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("RLAAS_URL", "http://10.1.2.3:8000/")
    monkeypatch.setenv("RLAAS_API_KEY", "rlk_x")
    client = RLaaSClient()
    assert client.url == "http://10.1.2.3:8000"
    assert client._http.headers["Authorization"] == "Bearer rlk_x"
