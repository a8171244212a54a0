"""What the API answers: problems with their cure, pages, one run for fifty equal requests, roles, streams, polls."""

import asyncio
import pathlib
import re
import types

import jsonschema
import pytest

from rlaas_ray.api import bodies, roles
from rlaas_ray.errors import all_errors
from rlaas_ray.specs import document

TRAIN = {"env": "CartPole-v1", "total_timesteps": 1000}
BASELINE = "baseline:CartPole-v1/random"

# A right body for every path that takes one, and the paths of those that need something to be there first.
BODIES = {
    "/api/v1/training": TRAIN,
    "/api/v1/optimization": {"problem": "5g"},
    "/api/v1/optimization/{run}/choose": {"method": "knee"},
    "/api/v1/evaluations": {"policy": BASELINE, "env": "CartPole-v1"},
    "/api/v1/runs": {"kind": "train", "spec": TRAIN, "place": "ray", "place_ref": "job-1"},
    "/api/v1/runs/report": {"reports": []},
    "/api/v1/runs/{run}/claim": {"attempt": 1},
    "/api/v1/runs/{run}/heartbeat": {"attempt": 1, "progress": {"fraction": 0.5}},
    "/api/v1/runs/{run}/events": {"attempt": 1, "events": []},
    "/api/v1/runs/{run}/metrics": {"attempt": 1, "rows": []},
    "/api/v1/runs/{run}/finish": {"attempt": 1, "state": "stopped"},
    "/api/v1/runs/{run}/register": {"attempt": 1, "path": "/nowhere", "name": "x"},
    "/api/v1/models/import": {"path": "/nowhere"},
    "/api/v1/models/m/deploy": {"endpoint": "cells"},
    "/api/v1/endpoints/cells/rollouts": {"challenger": BASELINE},
    "/api/v1/endpoints/cells/rollouts/{rollout}/promote": {"reason": "x"},
    "/api/v1/endpoints/cells/rollouts/{rollout}/abort": {"reason": "x"},
    "/api/v1/keys": {"roles": ["viewer"]},
}


def problem(answer) -> dict:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert {"type", "title", "status", "detail", "request_id"} <= set(body)
    assert body["status"] == answer.status_code
    assert body["type"].rpartition("/")[2] in all_errors()
    return body


def paths(app) -> list[tuple[str, set[str]]]:
    """Every path of the app with its methods, whatever router it came from."""
    return [(route.path, set(route.methods)) for route in walked(app.routes)]


def walked(routes, *, prefix: str = ""):
    for route in routes:
        inner = getattr(route, "original_router", None) or getattr(route, "router", None)
        if inner is not None:
            yield from walked(inner.routes)
        elif getattr(route, "methods", None):
            yield route


@pytest.fixture
def run_id(house) -> str:
    house.tick()
    return house.ask("POST", "/api/v1/training", json=TRAIN).json()["id"]


@pytest.mark.parametrize("path", sorted(BODIES))
def test_every_post_refuses_an_unknown_field_by_name_with_the_nearest(shared, path) -> None:
    field = min(BODIES[path])
    wrong = {**BODIES[path], f"{field}s": 1}
    found = problem(shared.ask("POST", path.format(run="train-x", rollout="rollout-x"), json=wrong))
    assert found["type"].endswith("unknown-field")
    assert f"{field}s" in found["detail"]
    assert field in found["cure"]
    assert found["errors"][0]["pointer"].endswith(f"/{field}s")


@pytest.mark.parametrize("path", sorted(BODIES))
def test_every_post_refuses_a_wrong_type_with_its_pointer(shared, path) -> None:
    field = min(BODIES[path])
    wrong = {**BODIES[path], field: {"not": ["this"]}}
    found = problem(shared.ask("POST", path.format(run="train-x", rollout="rollout-x"), json=wrong))
    assert found["status"] == 422
    assert found["errors"][0]["pointer"].startswith(f"/{field}")


@pytest.mark.parametrize("path", sorted(BODIES))
def test_every_post_refuses_what_is_no_object(shared, path) -> None:
    found = problem(shared.ask("POST", path.format(run="train-x", rollout="rollout-x"), json=[1, 2]))
    assert found["status"] == 422


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b'{"env": NaN}', "application/json", 400),
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"env=1", "application/x-www-form-urlencoded", 415),
        (b"{" + b" " * (1 << 20) + b"}", "application/json", 413),
    ],
)
def test_a_body_that_is_not_json_is_the_clients_fault(house, content, kind, status) -> None:
    import httpx

    async def send():
        transport = httpx.ASGITransport(house.api)
        headers = {"Authorization": f"Bearer {house.key}", "Content-Type": kind}
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.post("/api/v1/training", content=content, headers=headers)

    assert problem(asyncio.run(send()))["status"] == status


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"env": "CartPole-v9"}, 404, "CartPole-v1"),
        ({"env": "CartPole-v1", "algorithm": "ppu"}, 422, "algorithm"),
        ({"env": "CartPole-v1", "total_timesteps": -1}, 422, "total_timesteps"),
        ({"env": "CartPole-v1", "total_timesteps": 1, "total_episodes": 1}, 422, "not both"),
        ({"env": "CartPole-v1", "dataset": "Other-v1"}, 422, "differ"),
        ({"env": "CartPole-v1", "hyperparameters": {"learning_rat": 1}}, 422, "learning_rate"),
        ({"env": "CartPole-v1", "training_type": "supervised"}, 422, "reinforcement_learning"),
        ({"env": "CartPole-v1", "place": "kuberay"}, 501, "RayJob"),
        ({}, 422, "env"),
    ],
)
def test_a_training_that_cannot_be_is_refused_with_words(shared, body, status, words) -> None:
    answer = shared.ask("POST", "/api/v1/training", json=body)
    assert problem(answer)["status"] == status
    assert words in answer.text


def test_both_forms_of_a_training_mean_the_same(house) -> None:
    flat = {"algorithm": "ppo", "env": "rlaas/RanControl-v1", "learning_rate": 3e-4, "total_timesteps": 9}
    told = {"model_type": "ppo", "dataset": "5g_network_data", "total_timesteps": 9}
    inner = {"hyperparameters": {"learning_rate": 3e-4}, "training_type": "reinforcement_learning"}
    made = [house.ask("POST", "/api/v1/training", json=body).json()["spec"] for body in (flat, {**told, **inner})]
    assert made[0] == made[1]


@pytest.mark.parametrize(
    "dataset", ["log:cart", "minari:cart/mixed-v0", "/data/mixed.parquet", "./part-*.parquet", "logs"]
)
def test_logged_data_stays_a_dataset(house, dataset) -> None:
    body = {"algorithm": "iql", "env": "CartPole-v1", "dataset": dataset, "expectile": 0.9}
    spec = house.ask("POST", "/api/v1/training", json=body).json()["spec"]
    assert (spec["env"], spec["dataset"], spec["options"]) == ("CartPole-v1", dataset, {"expectile": 0.9})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"algorithm": "iql", "env": "CartPole-v1"}, "log:ENDPOINT"),
        ({"algorithm": "ppo", "env": "CartPole-v1", "dataset": "log:cart"}, "bc, marwil, cql, iql"),
    ],
)
def test_data_and_algorithm_go_together(shared, body, words) -> None:
    answer = shared.ask("POST", "/api/v1/training", json=body)
    assert problem(answer)["status"] == 422
    assert words in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "runs/train-x",
        "training/train-x/progress",
        "models/none",
        "models/none:3/versions",
        "endpoints/none",
        "endpoints/none/history",
        "endpoints/none/rollouts/rollout-x",
        "environments/None-v0",
        "optimization/x/front",
    ],
)
def test_a_name_that_nobody_knows_is_not_found(shared, path) -> None:
    assert problem(shared.ask("GET", f"/api/v1/{path}"))["status"] == 404


def test_a_run_shown_under_another_noun_is_not_found(house, run_id) -> None:
    assert house.ask("GET", f"/api/v1/training/{run_id}").status_code == 200
    assert problem(house.ask("GET", f"/api/v1/evaluations/{run_id}"))["status"] == 404


def test_other_methods_and_paths_are_problems_too(house) -> None:
    answer = house.ask("PATCH", "/api/v1/keys")
    assert problem(answer)["status"] == 405
    assert answer.headers["allow"]
    assert problem(house.ask("GET", "/api/v2/keys"))["status"] == 404


def test_fifty_equal_requests_make_one_run(house) -> None:
    house.tick()

    async def all_at_once():
        told = [house.send("POST", "/api/v1/training", json=TRAIN, Idempotency_Key="k1") for _ in range(50)]
        return await asyncio.gather(*told)

    answers = asyncio.run(all_at_once())
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 49
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert len(house.ask("GET", "/api/v1/runs").json()["items"]) == 1


def test_a_used_idempotency_key_with_another_body_is_refused(house) -> None:
    assert house.ask("POST", "/api/v1/training", json=TRAIN, Idempotency_Key="k1").status_code == 202
    found = problem(house.ask("POST", "/api/v1/training", json={**TRAIN, "seed": 1}, Idempotency_Key="k1"))
    assert found["type"].endswith("idempotency-mismatch")
    assert problem(house.ask("POST", "/api/v1/training", json=TRAIN, Idempotency_Key="x" * 256))["status"] == 422


def test_a_refused_request_does_not_use_its_key_up(house) -> None:
    assert house.ask("POST", "/api/v1/training", json={"env": "None-v0"}, Idempotency_Key="k").status_code == 404
    assert house.ask("POST", "/api/v1/training", json=TRAIN, Idempotency_Key="k").status_code == 202


def test_pages_hold_every_row_once_while_new_ones_come(house) -> None:
    def make(seed: int) -> str:
        house.clock.advance(0.001)
        return house.ask("POST", "/api/v1/training", json={**TRAIN, "seed": seed}).json()["id"]

    made = [make(seed) for seed in range(5)]
    seen, cursor = [], None
    while True:
        query = "?limit=2" + (f"&cursor={cursor}" if cursor else "")
        page = house.ask("GET", f"/api/v1/training{query}").json()
        seen += [item["id"] for item in page["items"]]
        make(99)
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert sorted(seen) == sorted(made)


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "state=gone"])
def test_a_wrong_parameter_is_refused(shared, query) -> None:
    assert problem(shared.ask("GET", f"/api/v1/runs?{query}"))["status"] == 422


@pytest.mark.parametrize("cursor", ["abc", "AAAAAAAAAABbMSwgImEiXQ", "%%", "x" * 500])
def test_a_made_up_cursor_is_refused(shared, cursor) -> None:
    assert problem(shared.ask("GET", f"/api/v1/runs?cursor={cursor}"))["status"] == 400


def test_docs_is_one_page_that_loads_nothing_and_has_every_operation_and_field(shared) -> None:
    answer = shared.ask("GET", "/docs", key="")
    assert answer.headers["content-type"].startswith("text/html")
    page = answer.text
    assert re.findall(r'(?:src|href)="?([^" >]*)', page) == ["/openapi.json"]
    assert "<script" not in page
    assert "url(" not in page
    document = shared.ask("GET", "/openapi.json", key="").json()
    for path, methods in document["paths"].items():
        for method in methods:
            assert f"<b>{method.upper()}</b><code>{path}</code>" in page
    for field in document["components"]["schemas"]["TrainSpec"]["properties"]:
        assert f"<code>{field}</code>" in page
    assert "/v1/endpoints/{name}/decisions" in page


def test_every_route_has_its_roles_and_every_role_entry_a_route(house) -> None:
    known = set()
    for path, methods in paths(house.api):
        known |= {f"{method} {path}" for method in methods - {"HEAD"}}
    missing = known - set(roles.TABLE)
    assert missing == set()
    unused = {entry for entry in roles.TABLE if entry not in known and not entry.endswith(("/front", "/trials"))}
    assert unused == set()


@pytest.mark.parametrize(
    ("role", "allowed", "refused"),
    [
        ("viewer", ["GET /api/v1/runs"], ["POST /api/v1/training", "GET /api/v1/keys"]),
        ("decider", [], ["GET /api/v1/runs", "POST /api/v1/training"]),
        ("operator", ["GET /api/v1/runs", "POST /api/v1/training"], ["POST /api/v1/keys", "GET /api/v1/audit"]),
        ("approver", ["GET /api/v1/runs"], ["POST /api/v1/training"]),
        ("pool", ["GET /internal/routes?pool=p&wait_s=0"], ["GET /api/v1/runs"]),
    ],
)
def test_a_key_may_do_what_its_role_says(house, role, allowed, refused) -> None:
    secret = house.ask("POST", "/api/v1/keys", json={"roles": [role]}).json()["secret"]
    for entry in allowed:
        method, path = entry.split()
        assert house.ask(method, path, json=TRAIN if method == "POST" else None, key=secret).status_code < 300
    for entry in refused:
        method, path = entry.split()
        assert problem(house.ask(method, path, json={}, key=secret))["status"] == 403


def test_nobody_is_asked_for_a_key_at_health_and_docs_alone(house) -> None:
    for path in ("/health", "/docs", "/openapi.json", "/docs/problems/tampered"):
        assert house.ask("GET", path, key="").status_code == 200
    for path in ("/api/v1/runs", "/metrics", "/internal/routes?pool=p", "/api/v9"):
        answer = house.ask("GET", path, key="")
        assert problem(answer)["status"] == 401
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_revoked_or_expired_or_made_up_key_opens_nothing(house) -> None:
    made = house.ask("POST", "/api/v1/keys", json={"roles": ["viewer"], "expires_s": 60}).json()
    assert house.ask("GET", "/api/v1/runs", key=made["secret"]).status_code == 200
    house.clock.advance(61)
    assert house.ask("GET", "/api/v1/runs", key=made["secret"]).status_code == 401
    other = house.ask("POST", "/api/v1/keys", json={"roles": ["viewer"]}).json()
    assert house.ask("DELETE", f"/api/v1/keys/{other['id']}").status_code == 204
    assert house.ask("GET", "/api/v1/runs", key=other["secret"]).status_code == 401
    assert house.ask("GET", "/api/v1/runs", key=other["secret"][:-1] + "A").status_code == 401
    listed = house.ask("GET", "/api/v1/keys").text
    assert made["secret"] not in listed
    assert re.search(r'"hash"', listed) is None


@pytest.mark.parametrize("role", ["god", "run"])
def test_a_role_that_nobody_can_have_is_refused(shared, role) -> None:
    assert problem(shared.ask("POST", "/api/v1/keys", json={"roles": [role]}))["status"] == 422


def test_the_admin_key_is_made_once_and_readable_by_its_owner_alone(house) -> None:
    first = house.key
    assert (house.home / "admin-key").stat().st_mode & 0o777 == 0o600
    house.restart()
    assert house.key == first


def test_a_strangers_host_header_is_refused(house) -> None:
    assert problem(house.ask("GET", "/health", Host="evil.example"))["status"] == 403
    assert house.ask("GET", "/health", Host="localhost:8000").status_code == 200
    assert house.ask("GET", "/health", Host="[::1]:8000").status_code == 200


def test_a_request_id_is_taken_where_it_has_the_form(house) -> None:
    assert house.ask("GET", "/health", X_Request_Id="abcd-1234").headers["x-request-id"] == "abcd-1234"
    assert house.ask("GET", "/health", X_Request_Id="a b\tc").headers["x-request-id"].startswith("req-")


def test_too_many_creations_hear_when_to_come_back(house) -> None:
    answers = [house.ask("POST", "/api/v1/training", json={"env": "None-v0"}) for _ in range(301)]
    assert answers[299].status_code == 404
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert problem(answers[-1])["type"].endswith("overload")


def test_decisions_wait_for_a_pool_with_words(house) -> None:
    for path in ("/v1/endpoints/cells/decisions", "/v2/models/cells/infer", "/predict"):
        answer = house.ask("POST", path, json={}, key="")
        assert problem(answer)["status"] == 503
        assert answer.headers["retry-after"]


def test_events_stream_from_where_the_reader_was_and_end(house, run_id) -> None:
    house.ask("POST", f"/api/v1/runs/{run_id}/stop")
    whole = house.ask("GET", f"/api/v1/runs/{run_id}/events").text
    assert re.findall(r"^event: (.*)$", whole, re.MULTILINE) == ["state", "state", "end"]
    rest = house.ask("GET", f"/api/v1/runs/{run_id}/events", Last_Event_ID="1").text
    assert re.findall(r"^id: (.*)$", rest, re.MULTILINE) == ["2"]
    assert house.ask("GET", f"/api/v1/runs/{run_id}/events?after=2").text.count("event:") == 1


def test_a_poll_hears_tables_beyond_its_epoch_with_bundles_and_keys(house) -> None:
    house.tick()
    poll = "/internal/routes?pool=policies&listener=127.0.0.1:8002&pid=7&wait_s=0&after_epoch="
    first = house.ask("GET", f"{poll}-1").json()
    assert (first["epoch"], first["tables"]) == (0, [])
    assert {"admin"} in [set(key["roles"]) for key in first["keys"]]
    document_ = house.ask("PUT", "/api/v1/endpoints/cells", json={"champion": BASELINE}).json()
    second = house.ask("GET", f"{poll}0").json()
    assert second["epoch"] == document_["epoch"] == 1
    assert set(second["bundles"]) == {document_["table"]["arms"][0]["digest"]}
    assert house.ask("GET", f"{poll}1").status_code == 204
    secret = house.ask("POST", "/api/v1/keys", json={"roles": ["decider"]}).json()["secret"]
    third = house.ask("GET", f"{poll}1").json()
    assert (third["tables"], len(third["keys"])) == ([], 2)
    assert house.ask("GET", "/api/v1/endpoints/cells").json()["addresses"]["native"] == ["http://127.0.0.1:8002"]
    assert house.ask("DELETE", "/api/v1/endpoints/cells").status_code == 204
    last = house.ask("GET", f"{poll}1").json()
    assert (last["tables"][0]["deleted"], last["bundles"]) == (True, {})
    assert house.ask("GET", "/internal/routes?pool=policies", key=secret).status_code == 403


def test_the_pools_hash_of_a_key_is_ours(house) -> None:
    from rlaas_ray.serve import keys as pool_keys

    secret = house.ask("POST", "/api/v1/keys", json={"roles": ["decider"]}).json()["secret"]
    told = house.ask("GET", "/internal/routes?pool=policies&after_epoch=-1").json()
    with pathlib.Path(told["pepper_path"]).open("rb") as file:
        pepper = file.read()
    ring = pool_keys.Keyring(mode="key")
    ring.replace(told["keys"], pepper=pepper)

    asked = types.SimpleNamespace(local=True, headers={b"authorization": f"Bearer {secret}".encode()})
    ring.check(asked, roles=pool_keys.MAY_DECIDE)


def test_an_endpoint_shows_spaces_and_an_observation_that_fits(house) -> None:
    from rlaas_ray.policies import spaces

    document_ = house.ask("PUT", "/api/v1/endpoints/cells", json={"champion": BASELINE}).json()
    spaces.check(spaces.from_json(document_["observation_space"]), document_["example"])
    assert house.ask("PUT", "/api/v1/endpoints/cells", json={"champion": BASELINE}).status_code == 200
    other = {"champion": "baseline:rlaas/RanControl-tiny-v1/hold"}
    assert problem(house.ask("PUT", "/api/v1/endpoints/cells", json=other))["status"] == 422
    mixed = {"champion": BASELINE, "fallback": "baseline:rlaas/RanControl-tiny-v1/hold"}
    assert problem(house.ask("PUT", "/api/v1/endpoints/more", json=mixed))["status"] == 422
    assert problem(house.ask("PUT", "/api/v1/endpoints/cells", json={"name": "x", "champion": "m"}))["status"] == 422
    assert problem(house.ask("PUT", "/api/v1/endpoints/Bad_Name", json={"champion": BASELINE}))["status"] == 422


def test_the_same_bundle_registers_once_and_a_name_can_be_moved(house, tmp_path) -> None:
    first = house.ask("PUT", "/api/v1/endpoints/cells", json={"champion": BASELINE}).json()["table"]["arms"][0]
    again = house.ask("PUT", "/api/v1/endpoints/other", json={"champion": BASELINE}).json()["table"]["arms"][0]
    assert first["version"] == again["version"] == "baseline-CartPole-v1-random:1"
    path = house.ask("GET", "/api/v1/models/baseline-CartPole-v1-random").json()["path"]
    made = house.ask("POST", "/api/v1/models/import", json={"path": path, "name": "mine"})
    assert (made.status_code, made.json()["number"]) == (201, 1)
    assert house.ask("PUT", "/api/v1/models/mine:1/aliases/good", json={}).json()["aliases"] == ["good"]
    assert house.ask("GET", "/api/v1/models/mine@good").json()["number"] == 1
    assert problem(house.ask("DELETE", "/api/v1/models/mine:1"))["status"] == 409  # an alias names it
    assert house.ask("POST", "/api/v1/models/mine/verify", json={}).json()["verified"]
    packed = house.ask("GET", "/api/v1/models/mine/bundle")
    (tmp_path / "b.tar.zst").write_bytes(packed.content)
    told = {"path": str(tmp_path / "b.tar.zst"), "name": "back"}
    assert house.ask("POST", "/api/v1/models/import", json=told).json()["digest"] == first["digest"]


def test_a_bundle_that_was_touched_is_refused_by_name(house, tmp_path) -> None:
    house.ask("PUT", "/api/v1/endpoints/cells", json={"champion": BASELINE})
    path = house.ask("GET", "/api/v1/models/baseline-CartPole-v1-random").json()["path"]
    from pathlib import Path

    card = Path(path) / "card.md"
    card.chmod(0o644)
    card.write_text("another card")
    found = problem(house.ask("POST", "/api/v1/models/baseline-CartPole-v1-random/verify", json={}))
    assert found["type"].endswith("tampered")
    assert "card.md" in found["detail"]


def test_openapi_names_every_operation_once_and_its_examples_are_valid(house) -> None:
    found = house.ask("GET", "/openapi.json").json()
    assert found["openapi"].startswith("3.1")
    operations = [one for path in found["paths"].values() for one in path.values()]
    ids = [one["operationId"] for one in operations]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z]+_[a-z_]+", name) for name in ids)
    for kind, example in bodies.EXAMPLES.items():
        schema = {"$ref": f"#/components/schemas/{kind.__name__}", "components": found["components"]}
        jsonschema.validate(example, schema)
        if "kind" not in kind.model_fields:
            document.parse(kind, example)


def test_a_scrape_shows_requests_runs_and_promises(house, run_id) -> None:
    text = house.ask("GET", "/metrics").text
    assert 'rlaas_api_requests_total{method="POST",route="/api/v1/training",status="202"} 1.0' in text
    assert 'rlaas_runs{kind="queued"} 1.0' in text


def test_a_study_is_accepted_and_its_trials_can_be_asked_for(house) -> None:
    body = {"train": {"env": "CartPole-v1"}, "space": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}}
    made = house.ask("POST", "/api/v1/tuning", json=body)
    assert made.status_code == 202
    assert made.headers["location"] == f"/api/v1/tuning/{made.json()['id']}"
    assert made.json()["id"].startswith("tune-")
    assert house.ask("GET", f"{made.headers['location']}/trials").json() == {"items": []}
    assert house.ask("GET", f"/api/v1/training/{made.json()['id']}").status_code == 404


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"train": {"env": "CartPole-v1"}, "space": {"learning_rat": {"low": 0.1, "high": 1}}}, "learning_rate"),
        ({"train": {"env": "CartPole-v9"}, "space": {"gamma": {"low": 0.9, "high": 1}}}, "no such env"),
        ({"space": {"gamma": {"low": 0.9, "high": 1}}}, "`train` or `function`"),
        ({"train": {"env": "CartPole-v1"}, "space": {"gamma": {"low": 0.9, "hihg": 1}}}, "hihg"),
    ],
)
def test_a_study_of_what_no_trial_takes_is_refused(house, body, words) -> None:
    found = problem(house.ask("POST", "/api/v1/tuning", json=body))
    assert found["status"] in {404, 422}
    assert words in f"{found['detail']} {found['cure']}"
