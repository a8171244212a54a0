"""The wire contract without a transport: what is answered, logged and counted, for good requests and bad ones."""

import hashlib
import hmac
import json
import re

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlaas_ray.specs.routing import Arm

DECISIONS = "/v1/endpoints/cells/decisions"
REWARDS = "/v1/endpoints/cells/rewards"
GOOD = {"unit": "cell-7", "observation": [0.1, 0.2, 0.3]}


def sample(world, name, **labels):
    return world.metrics.registry.get_sample_value(name, labels) or 0.0


def test_a_decision_says_what_it_was_and_is_in_the_log_before_the_answer(world):
    status, body, headers = world.decide()
    assert status == 200
    assert body == {
        "decision_id": "nonce00000-1",
        "action": [1.0, 1.0],
        "version": "ran-ppo:2",
        "arm": "champion",
        "arm_probability": 1.0,
        "propensity": 0.5,
        "epoch": 7,
        "logged": True,
        "fallback": None,
    }
    assert headers[b"x-rlaas-version"] == b"ran-ppo:2"
    assert headers[b"x-rlaas-arm"] == b"champion"
    rows = world.rows()
    assert rows.decision_id.tolist() == ["nonce00000-1"]
    assert rows.episode_id.tolist() == ["nonce00000-1"]
    assert rows.action_proposed.tolist() == [[0.1, 0.1]]
    assert rows.bundle_digest.tolist() == ["d-champion"]
    np.testing.assert_array_equal(rows.observation, np.float32([[0.1, 0.2, 0.3]]))


def test_requests_of_one_turn_run_as_one_batch_per_arm(world, table):
    world.serve(table(share=0.5))
    requests = [world.request(DECISIONS, {**GOOD, "unit": f"u-{i}"}) for i in range(40)]
    answers = [orjson.loads(a.body) for a in world.answerer.handle(requests)]
    calls = [world.policies[name].calls for name in ("champion", "challenger", "fallback")]
    # One row by itself, the one that is measured, and the rest in one batch for each arm.
    assert min(len(rows) for rows in (*calls[0], *calls[1])) == 1
    assert sorted(len(of) for of in calls) == [0, 1, 2]
    assert sum(len(rows) for of in calls for rows in of) == 40
    by_arm = {arm: [a for a in answers if a["arm"] == arm] for arm in ("champion", "challenger")}
    assert len(by_arm["champion"]) + len(by_arm["challenger"]) == 40
    assert all(a["action"] == [3.0, 3.0] and a["arm_probability"] == 0.5 for a in by_arm["challenger"])
    assert all(a["action"] == [1.0, 1.0] for a in by_arm["champion"])


def test_a_batch_is_answered_as_a_batch_in_order(world):
    batch = [{**GOOD, "unit": f"u-{i}", "episode_id": "e", "step": i} for i in range(5)]
    status, body, _ = world.ask(DECISIONS, {"batch": batch})
    assert status == 200
    assert len(body["batch"]) == 5
    assert world.rows().step.tolist() == [0, 1, 2, 3, 4]
    assert set(world.rows().episode_id.tolist()) == {"e"}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "not JSON"),
        (b'{"unit": "u", "observation": [NaN, 0, 0]}', 400, "not JSON"),
        (b"[]", 400, "one JSON object"),
        ({"unit": "u"}, 422, "'observation' is missing"),
        ({"observation": [0, 0, 0]}, 422, "'unit' is missing"),
        ({**GOOD, "unit": ""}, 422, "1 to 256"),
        ({**GOOD, "unit": 7}, 422, "'unit'"),
        ({**GOOD, "observation": [0, 0]}, 422, r"shape \(2,\)'; expected shape \(3,\)"),
        ({**GOOD, "observation": [1e39, 0, 0]}, 422, "finite"),
        ({**GOOD, "observation": ["a", 0, 0]}, 422, "numbers"),
        ({**GOOD, "observatoin": [0, 0, 0]}, 422, "observatoin"),
        ({**GOOD, "step": -1}, 422, "'step'"),
        ({**GOOD, "step": True}, 422, "'step'"),
        ({**GOOD, "deadline_ms": 0}, 422, "> 0"),
        ({**GOOD, "state_token": "x"}, 422, "keeps state"),
        ({**GOOD, "context": 3}, 422, "'context'"),
        ({"batch": []}, 422, "1 to 1024"),
        ({"batch": [GOOD] * 1025}, 422, "1025 items"),
        ({"batch": [GOOD, 3]}, 422, "an object"),
        ({"batch": [GOOD], "unit": "u"}, 422, "unit"),
    ],
)
def test_bad_requests_are_told_what_was_given_and_wanted_before_any_policy_runs(world, body, status, words):
    got, problem, headers = world.ask(DECISIONS, body, method="POST")
    assert got == status, problem
    assert re.search(words, problem["detail"] + str(problem["cure"])), problem
    assert problem["request_id"].encode() == headers[b"x-request-id"]
    assert all(not policy.calls for policy in world.policies.values())
    assert len(world.rows()) == 0


def test_a_bad_item_of_a_batch_is_pointed_at(world):
    _, problem, _ = world.ask(DECISIONS, {"batch": [GOOD, {**GOOD, "observation": [0]}]})
    assert problem["errors"][0]["pointer"] == "/batch/1/observation"


def test_an_unknown_field_is_named_with_the_nearest_known_one(world):
    _, problem, _ = world.ask(DECISIONS, {**GOOD, "episodeid": "e"})
    assert "episodeid" in problem["detail"]
    assert problem["cure"] == "Did you mean 'episode_id'?"


def test_an_unknown_endpoint_path_and_method_are_told(world):
    assert world.ask("/v1/endpoints/cell/decisions", GOOD)[0] == 404
    assert "cells" in world.ask("/v1/endpoints/cell/decisions", GOOD)[1]["cure"]
    assert world.ask("/nowhere")[0] == 404
    status, _, headers = world.ask(DECISIONS, method="GET")
    assert (status, headers[b"allow"]) == (405, b"POST")
    assert world.ask(DECISIONS, GOOD, headers={b"content-type": b"text/xml"})[0] == 415


def test_a_body_over_its_limit_is_refused(world):
    assert world.ask(DECISIONS, {**GOOD, "context": {"x": "y" * (1 << 20)}})[0] == 413


def test_before_the_first_table_the_pool_says_that_it_starts(world):
    world.answerer.state = type(world.answerer.state)()
    status, _, headers = world.decide()
    assert (status, headers[b"retry-after"]) == (503, b"1")
    assert world.ask("/health")[:2] == (503, {"status": "starting"})


def test_an_arm_that_raises_is_answered_by_the_fallback_and_logged_under_the_assigned_arm(world, table):
    world.serve(table(share=1.0))
    world.policies["challenger"].raises = True
    status, body, _ = world.decide()
    assert (status, body["fallback"], body["arm"], body["action"]) == (200, "error", "challenger", [2.0, 2.0])
    rows = world.rows()
    assert (rows.arm[0], rows.fallback[0], rows.version[0]) == ("challenger", "error", "ran-ppo:3")
    assert sample(world, "rlaas_fallbacks_total", endpoint="cells", arm="challenger", reason="error") == 1


def test_only_the_rows_that_are_not_finite_fall_back(world):
    world.policies["champion"].nan_at = -0.5
    odd = {"unit": "cell-8", "observation": [-0.5, 0.2, 0.3]}
    _, body, _ = world.ask(DECISIONS, {"batch": [GOOD, odd, GOOD]})
    assert [item["fallback"] for item in body["batch"]] == [None, "error", None]
    assert [item["action"] for item in body["batch"]] == [[1.0, 1.0], [2.0, 2.0], [1.0, 1.0]]


def test_one_row_of_a_turn_is_inferred_first_and_by_itself_and_only_that_one_has_a_latency(world, table):
    world.serve(table(share=0.5))
    for arm, seconds in (("champion", 0.004), ("challenger", 0.012)):
        world.policies[arm].seconds = seconds
    items = [{"unit": f"cell-{i}", "observation": [0.1, 0.2, 0.3]} for i in range(32)]
    for _ in range(64):
        world.ask(DECISIONS, {"batch": items})
    logged = world.rows()
    measured = logged.latency_us.reshape(64, 32) >= 0
    assert measured.sum(axis=1).tolist() == [1] * 64
    assert (logged.latency_us[logged.latency_us < 0] == -1).all()
    arms = logged.arm.reshape(64, 32)[measured]
    times = logged.latency_us.reshape(64, 32)[measured]
    assert (times == np.where(arms == "challenger", 12_000, 4_000)).all()
    # Chosen without a look at the arm: of 64 turns about as many as the split has challengers; and not always the same row.
    split = (logged.arm[:32] == "challenger").mean()
    assert abs((arms == "challenger").mean() - split) < 4 * 0.5 / 8
    assert len(set(np.flatnonzero(measured) % 32)) > 16
    world.decide()
    assert world.rows().latency_us[-1] in {4_000, 12_000}  # a turn of one row is its own measurement


def test_a_row_that_no_bet_counts_is_never_the_one_that_is_measured(world, table):
    world.serve(table(), table(endpoint="default"))
    world.ask("/predict", {"state": [[0.1, 0.2, 0.3]] * 4})  # without a unit: not logged, not assigned
    assert len(world.policies["champion"].calls) == 1


def test_five_failures_in_a_row_eject_an_arm_for_ten_seconds(world):
    champion = world.policies["champion"]
    champion.raises = True
    for _ in range(5):
        assert world.decide()[1]["fallback"] == "error"
    champion.raises = False
    assert world.decide()[1]["fallback"] == "error"
    assert len(champion.calls) == 5
    world.clock.advance(10.1)
    assert world.decide()[1]["fallback"] is None
    assert sample(world, "rlaas_arm_ejections_total", endpoint="cells", arm="champion") == 1


def test_a_slow_arm_is_answered_by_the_fallback(world):
    world.policies["champion"].seconds = 0.3
    assert world.decide()[1]["fallback"] == "deadline"
    world.policies["champion"].seconds = 0.1
    assert world.decide()[1]["fallback"] is None
    assert world.decide(deadline_ms=50)[1]["fallback"] == "deadline"
    world.policies["champion"].seconds = 0.3
    assert world.decide(deadline_ms=10_000)[1]["fallback"] == "deadline"  # a client cannot ask for more time


def test_waiting_too_long_before_the_arm_is_no_fault_of_the_arm(world):
    request = world.request(DECISIONS, GOOD)
    world.clock.advance(0.5)
    body = orjson.loads(world.answerer.handle([request])[0].body)
    assert body["fallback"] == "overload"


def test_without_any_working_policy_the_answer_is_503_and_the_failure_is_logged(world):
    world.policies["champion"].raises = world.policies["fallback"].raises = True
    assert world.decide()[0] == 503
    assert world.rows().fallback.tolist() == ["error"]


def test_estop_answers_by_the_fallback_and_stays_out_of_tests(world, table):
    world.serve(table(estop=True, share=0.5))
    body = world.decide()[1]
    assert (body["fallback"], body["arm"], body["action"]) == ("estop", "fallback", [2.0, 2.0])
    assert world.rows().excluded.tolist() == ["estop"]


def test_episodes_are_assigned_by_their_id(world, table):
    world.serve(table(share=0.5, assign_by="episode"))
    arms = {world.decide(episode_id=f"e-{i}")[1]["arm"] for i in range(40)}
    assert arms == {"champion", "challenger"}
    assert len({world.decide(episode_id="e-1", step=s)[1]["arm"] for s in range(20)}) == 1


def test_the_clients_id_asks_once(world):
    first = world.decide(decision_id="mine-1")
    again = world.decide(decision_id="mine-1")
    assert first[:2] == again[:2]
    assert len(world.rows()) == 1
    assert len(world.policies["champion"].calls) == 1
    assert world.decide(decision_id="mine-1", step=3)[0] == 409


def test_the_clients_id_twice_in_one_turn_asks_once(world):
    requests = [world.request(DECISIONS, {**GOOD, "decision_id": "mine"}) for _ in range(3)]
    requests.append(world.request(DECISIONS, {**GOOD, "decision_id": "mine", "unit": "other"}))
    answers = world.answerer.handle(requests)
    assert [a.status for a in answers] == [200, 200, 200, 409]
    assert len({a.body for a in answers[:3]}) == 1
    assert world.rows().decision_id.tolist() == ["mine"]


def test_a_full_disk_is_answered_and_says_so(world):
    world.disk_works = False
    status, body, _ = world.decide()
    assert (status, body["logged"]) == (200, False)
    assert sample(world, "rlaas_log_dropped_total", endpoint="cells", kind="decisions") == 1
    assert world.ask(REWARDS, {"decision_id": "x", "reward": 1.0})[0] == 503
    world.disk_works = True
    assert world.decide()[1]["logged"] is True
    assert world.ask(REWARDS, {"decision_id": "x", "reward": 1.0})[1]["accepted"] == 1


def test_a_full_disk_sheds_where_the_endpoint_asks_for_it(world, table):
    world.serve(table(on_full="shed"))
    world.disk_works = False
    status, _, headers = world.decide()
    assert (status, headers[b"retry-after"]) == (429, b"1")


def test_power_durability_waits_and_says_when_the_disk_did_not_confirm(world, table):
    world.serve(table(durability="power"))
    answer = world.answerer.handle([world.request(DECISIONS, GOOD)])[0]
    assert orjson.loads(answer.body)["logged"] is True
    assert answer.unsynced is not None
    assert orjson.loads(answer.unsynced().body)["logged"] is False


def test_rewards_are_told_apart(world):
    assert world.ask(REWARDS, {"decision_id": "a", "reward": 0.5})[:2] == (
        202,
        {"accepted": 1, "duplicate": 0, "rejected": []},
    )
    assert world.ask(REWARDS, {"decision_id": "a", "reward": 0.5})[1]["duplicate"] == 1
    _, body, _ = world.ask(
        REWARDS, {"batch": [{"decision_id": "a", "reward": 0.6}, {"decision_id": "a", "step": 1, "reward": 1}]}
    )
    assert (body["accepted"], body["rejected"][0]["index"], body["rejected"][0]["status"]) == (1, 0, 409)
    rewards = world.log.read("cells", after={})[1]
    assert list(zip(rewards.step.tolist(), rewards.reward.tolist(), strict=True)) == [(0, 0.5), (1, 1.0)]


@pytest.mark.parametrize(
    "body",
    [
        {"decision_id": "a"},
        {"reward": 1.0},
        {"decision_id": "a", "reward": "1"},
        {"decision_id": "a", "reward": True},
        {"decision_id": "a", "reward": 1, "done": 1},
        {"decision_id": "a", "reward": 1, "step": 0.5},
        {"decision_id": "a", "reward": 1, "time": "yesterday"},
        {"decision_id": "a", "reward": 1, "value": 2},
    ],
)
def test_malformed_rewards_are_refused_whole(world, body):
    assert world.ask(REWARDS, {"batch": [{"decision_id": "ok", "reward": 1}, body]})[0] == 422
    assert len(world.log.read("cells", after={})[1]) == 0


def test_predict_gives_the_action_of_the_champion_of_default(world, table):
    world.serve(table(endpoint="default", share=1.0))
    assert world.ask("/predict", {"state": [0.1, 0.2, 0.3]})[1] == {"action": [1.0, 1.0]}
    assert world.ask("/predict", {"state": [[0, 0, 0], [1, 1, 1]]})[1] == {"action": [[1.0, 1.0]] * 2}
    assert len(world.log.read("default", after={})[0]) == 0
    _, body, headers = world.ask("/predict", {"state": [0, 0, 0]}, headers={b"rlaas-unit": b"u"})
    assert body == {"action": [3.0, 3.0]}
    assert world.log.read("default", after={})[0].decision_id.tolist() == [headers[b"x-rlaas-decision-id"].decode()]
    assert world.ask("/predict", {"state": [0, 0]})[0] == 422
    assert world.ask("/predict", {"state": [[0, 0, 0], [0, 0]]})[1]["errors"][0]["pointer"] == "/state/1"
    assert world.ask("/predict", {"state": []})[0] == 422


def test_open_inference_protocol(world, table):
    world.serve(table(share=0.5))
    assert world.ask("/v2/health/ready")[0] == 200
    _, model, _ = world.ask("/v2/models/cells")
    assert (model["versions"], model["inputs"][0]["shape"]) == (["1", "2", "3"], [-1, 3])
    tensor = {"name": "obs", "datatype": "FP32", "shape": [2, 3], "data": [0.0] * 6}
    status, body, _ = world.ask("/v2/models/cells/infer", {"id": "q", "inputs": [tensor]})
    assert (status, body["model_version"], body["id"]) == (200, "2", "q")
    assert body["outputs"][0] == {"name": "action", "datatype": "FP64", "shape": [2, 2], "data": [1.0] * 4}
    assert len(world.rows()) == 0
    assert world.ask("/v2/models/cells/versions/3/infer", {"inputs": [tensor]})[1]["outputs"][0]["data"] == [3.0] * 4
    world.ask("/v2/models/cells/infer", {"inputs": [tensor], "parameters": {"unit": "u"}})
    assert len(world.rows()) == 2


@pytest.mark.parametrize(
    ("path", "tensor", "status"),
    [
        ("/v2/models/cells/infer", {"shape": [1, 2], "data": [0, 0]}, 422),
        ("/v2/models/cells/infer", {"shape": [1, 3], "data": [0, 0]}, 422),
        ("/v2/models/cells/infer", {"shape": [1, 3], "data": [0, 0, "x"]}, 422),
        ("/v2/models/cells/infer", {"shape": [1, 3], "data": None}, 422),
        ("/v2/models/cells/infer", {"shape": [1, 3], "parameters": {"binary_data_size": 12}}, 400),
        ("/v2/models/cells/versions/9/infer", {"shape": [1, 3], "data": [0, 0, 0]}, 404),
        ("/v2/models/nobody/infer", {"shape": [1, 3], "data": [0, 0, 0]}, 404),
    ],
)
def test_open_inference_errors_are_in_its_own_form(world, path, tensor, status):
    got, body, _ = world.ask(path, {"inputs": [{"name": "obs", "datatype": "FP32", **tensor}]})
    assert got == status
    assert set(body) == {"error"}


def test_a_shadow_arm_is_logged_apart_and_changes_no_answer(world, table):
    shadow = Arm(name="shadow", role="shadow", version="ran-ppo:9", digest="d-shadow")
    world.serve(table(arms=(shadow,)))
    world.policies["shadow"].raises = True
    assert world.decide()[1]["action"] == [1.0, 1.0]
    assert not world.policies["shadow"].calls
    world.answerer.shadows.run_some()
    assert sample(world, "rlaas_shadow_total", endpoint="cells", outcome="error") == 1
    world.policies["shadow"].raises = False
    for _ in range(300):
        world.decide()
    assert len(world.answerer.shadows) == 256
    while len(world.answerer.shadows):
        world.answerer.shadows.run_some()
    assert sample(world, "rlaas_shadow_total", endpoint="cells", outcome="differs") == 256
    assert sample(world, "rlaas_shadow_total", endpoint="cells", outcome="dropped") == 44
    assert len(world.rows()) == 301
    assert set(world.rows().arm.tolist()) == {"champion"}


def a_key(world, role):
    prefix, secret, pepper = "abcd2345", "s_e-cret" * 5, b"pepper"
    told = {"prefix": prefix, "hash": hmac.new(pepper, secret.encode(), hashlib.sha256).hexdigest(), "roles": [role]}
    world.keys.replace([told], pepper=pepper)
    return f"rlk_{prefix}_{secret}".encode()


def test_from_elsewhere_a_key_with_a_role_is_needed(world):
    key = a_key(world, "decider")
    far = {"local": False}
    assert world.ask(DECISIONS, GOOD, **far)[0] == 401
    assert world.ask(DECISIONS, GOOD, headers={b"authorization": b"Bearer " + key}, **far)[0] == 200
    assert world.ask(DECISIONS, GOOD, headers={b"x-api-key": key}, **far)[0] == 200
    assert world.ask(DECISIONS, GOOD, headers={b"x-api-key": key[:-1] + b"x"}, **far)[0] == 401
    assert world.ask(DECISIONS, GOOD, headers={b"x-forwarded-for": b"10.1.2.3"})[0] == 401
    assert world.ask(DECISIONS, GOOD, headers={b"x-forwarded-for": b"127.0.0.1"})[0] == 200
    key = a_key(world, "viewer")
    assert world.ask(DECISIONS, GOOD, headers={b"x-api-key": key}, **far)[0] == 403
    assert world.ask("/health", **far)[0] == 200


def test_a_request_id_is_echoed_if_it_is_one(world):
    assert world.ask("/health", headers={b"x-request-id": b"abc-12345"})[2][b"x-request-id"] == b"abc-12345"
    assert world.ask("/health", headers={b"x-request-id": b"a\nb"})[2][b"x-request-id"].startswith(b"req-")


def test_draining_says_so_and_closes(world):
    world.answerer.draining = True
    assert world.ask("/health")[:2] == (503, {"status": "draining"})
    status, _, headers = world.decide()
    assert (status, headers[b"connection"]) == (200, b"close")


def test_metrics_are_prometheus_text(world):
    world.decide()
    body = world.ask("/metrics")[1]
    assert b'rlaas_decisions_total{arm="champion",endpoint="cells"} 1.0' in body


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
ASKED = ["unit", "observation", "context", "episode_id", "step", "decision_id", "state_token", "deadline_ms", "batch"]
OTHERS = ["reward", "done", "truncated", "time", "state", "inputs", "parameters", "id", "outputs", "x"]
FIELDS = st.sampled_from([*ASKED, *OTHERS])
PATHS = st.sampled_from(
    [DECISIONS, REWARDS, "/predict", "/v2/models/cells/infer", "/v2/models/cells", "/metrics", "//"]
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=PATHS,
    body=st.dictionaries(FIELDS, JSON, max_size=5) | JSON,
    raw=st.none() | st.binary(max_size=40),
    good=st.booleans(),
)
def test_nothing_that_a_client_sends_is_a_5xx(world, table, path, body, raw, good):
    world.serve(table(), table(endpoint="default"))
    if good and isinstance(body, dict):
        body = GOOD | body
    data = (
        json.dumps(body).encode() if raw is None else raw
    )  # json, not orjson: it writes NaN and what clients may write
    answer = world.answerer.handle([world.request(path, data, method="POST")])[0]
    assert answer.status < 500, (path, data, answer.body)
    assert answer.status in (200, 202) or b'"' in answer.body
