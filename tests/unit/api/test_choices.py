"""A point taken from a run's front: made, written down, found again, with its variables; who may, and what is refused."""

import asyncio

import httpx
import numpy as np
import pytest

from rlaas_ray.control.actor import Actor
from rlaas_ray.optimize import state
from rlaas_ray.sdk.async_client import AsyncRLaaSClient
from rlaas_ray.testing.house import House

OBJECTIVES = [{"name": "cost", "unit": "EUR", "direction": "min"}, {"name": "gain", "unit": "1", "direction": "max"}]
FRONT = [[1.0, 2.0], [2.0, 6.0], [4.0, 7.0], [8.0, 7.5]]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """One for all: each test has a run of its own."""
    made = House(tmp_path_factory.mktemp("choices") / "home")
    yield made
    made.application.close()


@pytest.fixture
def run_id(house, tmp_path) -> str:
    return searched(house, points=tmp_path / "points.npz")


def searched(house, *, points=None, result=True) -> str:
    """A search that has ended, as its process would have told it."""
    house.tick()
    run = house.ask("POST", "/api/v1/optimization", json={"problem": "5g", "seed": 3}).json()["id"]
    actor = Actor(id="key:x", roles=frozenset({"run"}), subject=f"run:{run}")
    runs = house.application.runs
    runs.claim(run, attempt=1, place_ref=None, actor=actor)
    found = {
        "objectives": OBJECTIVES,
        "front": FRONT,
        "weights": {"cost": 0.5, "gain": 0.5},
        "chosen": {"index": 2, "x": [0.3]},
        "variables_digest": "v",
        "points_uri": str(points),
    }
    if points is not None:
        arrays = {"archive.x": np.array([[0.1], [0.2], [0.3]]), "archive.f": np.array(FRONT[:3]) * [1, -1]}
        points.write_bytes(state.pack({"variables": "v"}, arrays))
    if result:
        runs.finish(run, attempt=1, final={"state": "succeeded", "result": found}, actor=actor)
    return run


def choose(house, run, **body):
    return house.ask("POST", f"/api/v1/optimization/{run}/choose", json=body)


def test_a_choice_has_its_variables_is_an_event_of_the_run_and_is_found_again(house, run_id) -> None:
    answer = choose(house, run_id, method="topsis", sensitivity=True)
    made = answer.json()
    assert answer.status_code == 201, answer.text
    assert (made["chosen"]["index"], made["chosen"]["x"]) == (
        1,
        [0.2],
    )  # from the file: the document has 2's alone
    assert made["chosen"]["objectives"] == {"cost": 2.0, "gain": 6.0}
    events, _ = house.application.runs.events(run_id, after=0)
    kept = next(event for event in events if event.kind == "choice")
    assert (kept.seq, kept.data["chosen"]) == (made["seq"], made["chosen"])
    assert kept.data["asked"] == {"method": "topsis", "normalisation": "vector", "sensitivity": True}
    second = choose(house, run_id, targets={"gain": 7.0}).json()
    assert second["chosen"]["x"] == [0.3]
    listed = house.ask("GET", answer.headers["location"]).json()["items"]
    assert [one["seq"] for one in listed] == [second["seq"], made["seq"]]
    assert listed[1]["reason"] == made["reason"]


def test_a_choice_is_audited(house, run_id) -> None:
    made = choose(house, run_id).json()
    rows = house.ask("GET", "/api/v1/audit?limit=50").json()["items"]
    chosen = [row for row in rows if row["action"] == "runs.choose" and row["object"] == f"run:{run_id}"]
    assert [row["detail"]["seq"] for row in chosen] == [made["seq"]]


def test_the_same_request_sent_twice_is_one_choice(house, run_id) -> None:
    path = f"/api/v1/optimization/{run_id}/choose"
    one, two = (house.ask("POST", path, json={"method": "knee"}, Idempotency_Key="k") for _ in range(2))
    assert one.json() == two.json()
    assert two.headers["idempotency-replayed"] == "true"
    assert len(house.ask("GET", f"/api/v1/optimization/{run_id}/choices").json()["items"]) == 1


def test_a_session_keeps_the_frame_of_its_first_choice(house, run_id) -> None:
    first = choose(house, run_id, weights={"cost": 1}).json()
    assert choose(house, run_id, session=first["seq"]).json()["frame"] == first["frame"]
    answer = choose(house, run_id, session=999)
    assert answer.status_code == 422
    assert f"seq of a choice of {run_id}: {first['seq']}" in answer.json()["detail"]


def test_parties_are_resolved_and_found_again(house, run_id) -> None:
    parties = [{"name": "a", "weights": {"cost": 1}}, {"name": "b", "weights": {"gain": 1}}]
    made = choose(house, run_id, parties=parties).json()
    assert made["chosen"]["index"] == 1
    assert house.ask("GET", f"/api/v1/optimization/{run_id}/choices").json()["items"][0]["parties"] == made["parties"]
    hard = [{**parties[0], "limits": {"cost": 1.5}}, {**parties[1], "limits": {"gain": 7}}]
    refused = choose(house, run_id, parties=hard).json()
    assert refused["chosen"] is None
    assert refused["relax"]["limit of a on cost"] == {"given": 1.5, "needed": 2.0}


def test_without_the_file_a_point_has_no_variables(house) -> None:
    run = searched(house)
    assert choose(house, run, method="topsis").json()["chosen"]["x"] is None
    assert choose(house, run, targets={"gain": 7.0}).json()["chosen"]["x"] == [0.3]  # the run's own


def test_a_search_without_a_front_cannot_be_chosen_from(house) -> None:
    answer = choose(house, searched(house, result=False))
    assert answer.status_code == 409
    assert "Wait" in answer.json()["cure"]


def test_a_front_that_grows_can_be_chosen_from(house) -> None:
    run = searched(house, result=False)
    actor = Actor(id="key:x", roles=frozenset({"run"}), subject=f"run:{run}")
    event = {"kind": "front", "time_us": 1, "seq": 1, "data": {"front": FRONT, "objectives": OBJECTIVES}}
    house.application.runs.add_events(run, attempt=1, events=[event], actor=actor)
    made = choose(house, run).json()
    assert (made["chosen"]["index"], made["chosen"]["x"]) == (1, None)


def test_only_who_may_work_may_choose_and_everybody_may_read(house, run_id) -> None:
    viewer = house.ask("POST", "/api/v1/keys", json={"roles": ["viewer"]}).json()["secret"]
    path = f"/api/v1/optimization/{run_id}"
    assert house.ask("POST", f"{path}/choose", json={}, key=viewer).status_code == 403
    assert house.ask("GET", f"{path}/choices", key=viewer).status_code == 200


def test_runs_that_are_no_searches_have_no_choices(house) -> None:
    house.tick()
    run = house.ask("POST", "/api/v1/training", json={"env": "CartPole-v1", "total_timesteps": 10}).json()["id"]
    assert choose(house, run).status_code == 404
    assert house.ask("GET", f"/api/v1/optimization/{run}/choices").status_code == 404
    assert choose(house, "optimize-x").status_code == 404


def test_a_misspelt_objective_is_named(house, run_id) -> None:
    found = choose(house, run_id, weights={"coste": 1}).json()
    assert "Did you mean 'cost'?" in found["cure"]
    assert found["errors"][0]["pointer"] == "/weights/coste"


def test_the_client_chooses_by_the_handle_and_by_the_noun(house, run_id) -> None:
    async def chosen():
        transport = httpx.ASGITransport(app=house.api)
        async with AsyncRLaaSClient("http://127.0.0.1:8000", api_key=house.key, transport=transport) as client:
            search = await client.optimization.get(run_id)
            made = await search.choose(method="knee")
            other = await client.optimization.choose(run_id, targets={"gain": np.float64(7)})
            return made, other, await search.choices()

    made, other, listed = asyncio.run(chosen())
    assert (made.chosen["index"], made.method, made.runner_up["index"]) == (1, "knee", 2)
    assert made.reason == made.raw["reason"]
    assert [one["seq"] for one in listed] == [other.seq, made.seq]
