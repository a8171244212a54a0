"""Weights of an endpoint, changed while it answers: client, API, control, route table, replica, decision, log."""

from pathlib import Path

import numpy as np
import orjson
import pytest

from rlaas.sdk import RLaaSClient, errors
from rlaas_ray import wiring
from rlaas_ray.api import app
from rlaas_ray.data.decision_log import ArrowDecisionLog
from rlaas_ray.evaluation import targets
from rlaas_ray.monitoring.metrics import ServingMetrics
from rlaas_ray.policies import bundle
from rlaas_ray.policies.preferences import Objective, Preference
from rlaas_ray.sdk import asgi
from rlaas_ray.serve.answer import Answerer
from rlaas_ray.serve.keys import Keyring
from rlaas_ray.serve.routes import Routes, Told
from rlaas_ray.serve.wire import Request
from rlaas_ray.serve.writer import DecisionWriter
from rlaas_ray.settings import Settings, SystemClock
from rlaas_ray.specs import routing
from rlaas_ray.testing.bundles import a_bundle, a_table
from rlaas_ray.testing.mirror import MemoryMirror

URL = "http://127.0.0.1"
OBSERVATION = [0.1, -0.4, 0.7, 0.2]


def a_preference(*names: str) -> Preference:
    objectives = tuple(Objective(name=name, unit="1", direction="max") for name in names)
    return Preference(objectives=objectives, scale=None, default=(0.5, 0.5))


class Served:
    """The control plane in this process, and one replica that hears of its tables when told to."""

    def __init__(self, home: Path) -> None:
        self.application = wiring.build(Settings(home=home), inline=True, given=wiring.Given(mirror=MemoryMirror()))
        self.transport = asgi.AsgiTransport(app.create(self.application))
        self.transport.start()
        self.client = RLaaSClient(URL, api_key=(home / "admin-key").read_text().strip(), transport=self.transport)
        self.root = home / "decisions"
        clock, metrics, rng = SystemClock(), ServingMetrics(), np.random.default_rng(0)
        self.writer = DecisionWriter(self.root, nonce="nonce00000", clock=clock, metrics=metrics)
        keys = Keyring(mode="loopback")
        self.answerer = Answerer(
            writer=self.writer, keys=keys, nonce="nonce00000", rng=rng, clock=clock, metrics=metrics
        )
        self.routes = Routes(
            pool="policies",
            cache=home / "routes",
            load=lambda path: bundle.load(path, engine="numpy"),
            publish=lambda state: setattr(self.answerer, "state", state),
            keys=Keyring(mode="loopback"),
            metrics=metrics,
            rng=rng,
        )
        for name, seed, preference in (
            ("mo", 1, a_preference("speed", "thrift")),
            ("mo2", 2, a_preference("speed", "thrift")),
            ("other", 3, a_preference("speed", "care")),
            ("plain", 4, None),
        ):
            a_bundle(home / name, seed=seed, preference=preference)
            self.client.models.register(str(home / name), name=name)

    def hear(self) -> None:
        """What the long poll does."""
        news = self.application.feed.news("policies", after_epoch=self.routes.state.epoch or -1, listener=None)
        if news is not None:
            self.routes.take(Told.from_json(orjson.loads(orjson.dumps(news))))
        assert self.routes.failed == {}

    def ask(self, path: str, body: dict) -> tuple[int, dict]:
        request = Request(
            method="POST",
            path=path,
            headers={},
            body=orjson.dumps(body),
            arrived_s=SystemClock().monotonic_s(),
            local=True,
        )
        answer = self.answerer.handle([request])[0]
        return answer.status, orjson.loads(answer.body)

    def decide(self, endpoint: str) -> dict:
        status, body = self.ask(f"/v1/endpoints/{endpoint}/decisions", {"unit": "u", "observation": OBSERVATION})
        assert status == 200, body
        return body


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    made = Served(tmp_path_factory.mktemp("home"))
    yield made
    made.writer.close()
    made.transport.close()


def test_decisions_follow_the_weights_and_the_log_has_them(served) -> None:
    endpoint = served.client.endpoints.create("cells", policy="mo")
    assert endpoint.document["preference"] == {"speed": 0.5, "thrift": 0.5}
    served.hear()
    before = served.decide("cells")
    policies = served.routes.state.endpoint("cells").policies

    changed = endpoint.prefer(thrift=3, speed=1)
    assert changed["preference"] == {"speed": 0.25, "thrift": 0.75}
    assert changed["epoch"] > before["epoch"]
    served.hear()
    after = served.decide("cells")
    assert served.routes.state.endpoint("cells").policies == policies  # the very same objects: nothing was loaded again
    assert after["epoch"] == changed["epoch"]
    assert after["version"] == before["version"]

    own = served.client.models.get("mo")
    policy = bundle.load(Path(own["path"]), engine="numpy")
    logged = ArrowDecisionLog(str(served.root)).read("cells", after={})[0]
    np.testing.assert_allclose(logged.observation, [[*OBSERVATION, 0.5, 0.5], [*OBSERVATION, 0.25, 0.75]], rtol=1e-6)
    for answer, weights in ((before, [0.5, 0.5]), (after, [0.25, 0.75])):
        row = policy.preferring(weights).encode(np.array([OBSERVATION]))
        logits = policy.distribution(row)[0].astype(float)
        wanted = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        np.testing.assert_allclose(answer["probabilities"], wanted, rtol=1e-5)
    assert abs(before["probabilities"][0] - after["probabilities"][0]) > 1e-3
    # Off-policy evaluation reads the weights where the policy read them: its propensities are those of the log.
    found = targets.probabilities(policy, observations=logged.observation, proposed=logged.action_proposed)
    np.testing.assert_allclose(found, logged.propensity, rtol=1e-5)
    # Under other weights than those logged it would have done what it does when it serves by them.
    other = targets.under(policy.preferring([0.25, 0.75]), observations=logged.observation)
    moved = targets.probabilities(policy, observations=other, proposed=logged.action_proposed)
    wanted = [after["probabilities"][int(action)] for action in logged.action_proposed[:, 0]]
    np.testing.assert_allclose(moved, wanted, rtol=1e-5)

    history = endpoint.history()
    assert history[0]["epoch"] == changed["epoch"]
    assert "speed 0.25, thrift 0.75" in str(history[0])
    audited = served.client.get("/api/v1/audit", limit=200)["items"]
    row = next(one for one in audited if one["action"] == "endpoints.replace" and one["object"] == "endpoint:cells")
    assert row["detail"]["preference"] == {"speed": 0.25, "thrift": 0.75}
    assert row["detail"]["epoch"] == changed["epoch"]


def test_the_other_doors_take_the_envs_own_observation_too(served) -> None:
    served.client.endpoints.create("default", policy="mo", preference={"speed": 1.0})
    served.hear()
    assert served.ask("/predict", {"state": OBSERVATION})[0] == 200
    tensor = {"name": "obs", "datatype": "FP32", "shape": [1, 4], "data": OBSERVATION}
    assert served.ask("/v2/models/default/infer", {"inputs": [tensor]})[0] == 200
    tensor = {"name": "obs", "datatype": "FP32", "shape": [1, 6], "data": [*OBSERVATION, 1, 0]}
    assert served.ask("/v2/models/default/infer", {"inputs": [tensor]})[0] == 422


def test_a_fallback_need_not_observe_the_weights(served) -> None:
    served.client.endpoints.create("safe", policy="mo", fallback="plain", preference={"thrift": 1.0})
    served.hear()
    state = served.routes.state.endpoint("safe")
    champion = state.policies[state.champion.digest]

    class Broken:
        def __getattr__(self, name):
            return getattr(champion, name)

        def decide(self, *given, **more):
            raise RuntimeError("engine down")

    broken = {digest: Broken() if policy is champion else policy for digest, policy in state.policies.items()}
    whole = state.policies
    object.__setattr__(state, "policies", broken)
    try:
        assert served.decide("safe")["fallback"] == "error"
    finally:
        object.__setattr__(state, "policies", whole)  # other endpoints take loaded policies from here
    logged = ArrowDecisionLog(str(served.root)).read("safe", after={})[0]
    np.testing.assert_allclose(logged.observation, [[*OBSERVATION, 0, 1]], rtol=1e-6)


@pytest.mark.parametrize(
    ("policy", "more", "words"),
    [
        ("mo", {"preference": {"sped": 1.0}}, "speed"),
        ("mo", {"preference": {"speed": 0.0}}, "not all 0"),
        ("mo", {"preference": {"speed": -1.0, "thrift": 2.0}}, "at least 0"),
        ("plain", {"preference": {"speed": 1.0}}, "preference: conditioned"),
        ("mo", {"fallback": "other"}, "another endpoint"),
    ],
)
def test_weights_that_the_policy_does_not_have_are_refused(served, policy: str, more: dict, words: str) -> None:
    with pytest.raises(errors.InvalidInput) as refused:
        served.client.endpoints.create("refused", policy=policy, **more)
    assert words in f"{refused.value} {refused.value.cure}"


def test_an_endpoint_keeps_to_policies_of_its_own_objectives(served) -> None:
    endpoint = served.client.endpoints.create("kept", policy="mo", preference={"speed": 1.0})
    for other in ("plain", "other"):
        with pytest.raises(errors.InvalidInput):
            served.client.endpoints.create("kept", policy=other)
        with pytest.raises(errors.InvalidInput):
            endpoint.rollout(other)
    rollout = endpoint.rollout("mo2")
    with pytest.raises(errors.Conflict):  # what is judged is not changed
        endpoint.prefer(thrift=1)
    rollout.promote(reason="a test")
    shown = endpoint.refresh()
    assert shown["preference"] == {"speed": 1.0, "thrift": 0.0}  # the weights outlive the champion
    assert endpoint.prefer(thrift=1)["table"]["arms"][0]["version"] == "mo2:1"


def test_tables_from_before_there_were_preferences_are_read_and_keep_their_digest() -> None:
    old = a_table("d")
    body = old.to_json()
    assert "preference" not in body
    assert routing.from_json(body) == old
    new = a_table("d", preference=(("speed", 0.25), ("a", 0.75)))
    again = routing.from_json(orjson.loads(new.canonical()))
    assert again == new
    assert again.digest() == new.digest() != old.digest()
