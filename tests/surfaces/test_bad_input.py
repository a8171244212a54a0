"""Bad input at the doors as users meet them: real listener, real disk limits, the API in front of it, the real command line.

Each case: what is wrong is named, the status or exit code is that of the contract, and nothing of it is kept.
"""

import asyncio
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import httpx
import numpy as np
import orjson
import pytest

from rlaas_ray import errors
from rlaas_ray.api import forward, problems
from rlaas_ray.cli import following, main, output, runtime, status
from rlaas_ray.data.decision_log import ArrowDecisionLog
from rlaas_ray.sdk.client import RLaaSClient
from rlaas_ray.serve import plane, standalone, wire
from rlaas_ray.serve.routes import Told
from rlaas_ray.testing import bundles
from rlaas_ray.testing.house import House

GOOD = {"unit": "u", "observation": [0.1, 0.2, 0.3, 0.4]}
DECISIONS, REWARDS = "/v1/endpoints/cells/decisions", "/v1/endpoints/cells/rewards"
RLAAS = [sys.executable, "-m", "rlaas_ray.cli"]


class Doors:
    """One data plane, asked straight and through the API's forwarding; and the API itself."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.house = House(root / "home")
        self.plane = plane.build(pool="policies", home=root / "plane", data=root / "plane", auth="loopback")
        digest = bundles.a_bundle(root / "bundle")
        told = {"epoch": 1, "tables": [bundles.a_table(digest).to_json()], "bundles": {digest: str(root / "bundle")}}
        self.plane.routes.take(Told.from_json({**told, "keys": [], "pepper_path": None}))
        self.house.application.feed.hear("policies", address="127.0.0.1:8002", pid=None, epoch=1)

    def ask(self, path: str, body: bytes, *, through_api: bool, **more) -> httpx.Response:
        native = httpx.ASGITransport(self.plane.door, client=("127.0.0.1", 40_000))
        front = forward.Forward(self.house.api, application=self.house.application, transport=native)
        front = problems.Problems(front)
        return asyncio.run(_post(front if through_api else self.plane.door, path=path, body=body, **more))

    def rows(self) -> tuple[int, int]:
        decisions, rewards, _ = ArrowDecisionLog(str(self.root / "plane")).read("cells", after={})
        return len(decisions), len(rewards)

    def close(self) -> None:
        self.plane.close()
        self.house.application.close()


async def _post(app, *, path, body, method="POST"):
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 50_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.request(method, path, content=body)


@pytest.fixture(scope="module")
def doors(tmp_path_factory):
    made = Doors(tmp_path_factory.mktemp("doors"))
    yield made
    made.close()


@pytest.mark.parametrize("through_api", [False, True])
@pytest.mark.parametrize(
    ("path", "body", "code", "pointer", "words"),
    [
        (DECISIONS, {"unit": "u", "observation": [1, 2]}, 422, "/observation", r"shape \(2,\).*shape \(4,\)"),
        (DECISIONS, {"unit": "u", "observation": [1, 2, 3, None]}, 422, "/observation", "numbers of shape"),
        (DECISIONS, {"unit": "u", "observation": "abc"}, 422, "/observation", "shape"),
        (DECISIONS, {"unit": "u", "observatio": [1]}, 422, "/observatio", "unknown field"),
        (DECISIONS, {"unit": 7, "observation": [1, 2, 3, 4]}, 422, "/unit", "given 7"),
        (DECISIONS, {"observation": [1, 2, 3, 4]}, 422, "/unit", "missing"),
        (DECISIONS, {"batch": [GOOD, {"unit": "u", "observation": [1]}]}, 422, "/batch/1/observation", "shape"),
        (DECISIONS, {"batch": []}, 422, "/batch", "1 to 1024"),
        (DECISIONS, b'{"unit":"u","observation":[0,0,0,NaN]}', 400, None, "numbers finite"),
        (DECISIONS, b'{"unit":"u","observation":[0,0,0,1e999]}', 400, None, "infinity"),
        (DECISIONS, b'{"unit":', 400, None, "not JSON"),
        (DECISIONS, b"", 400, None, "not JSON"),
        (DECISIONS, b"[" * 100_000, 400, None, "depth"),
        (DECISIONS, [], 400, None, "one JSON object"),
        (DECISIONS, b" " * (wire.BATCH_LIMIT + 1), 413, None, f"at most {wire.BATCH_LIMIT}"),
        ("/v1/endpoints/nosuch/decisions", GOOD, 404, None, "endpoint; given 'nosuch'"),
        ("/v1/endpoints/cells/nosuch", GOOD, 404, None, "expected /v1/endpoints"),
        (REWARDS, {"decision_id": "d-1", "reward": "much"}, 422, "/reward", "finite number"),
        (REWARDS, {"decision_id": "d-1"}, 422, "/reward", "missing"),
        (REWARDS, b'{"decision_id":"d-1","reward":NaN}', 400, None, "numbers finite"),
        (
            REWARDS,
            {"batch": [{"decision_id": "d-1", "reward": 1}, {"reward": 1}]},
            422,
            "/batch/1/decision_id",
            "missing",
        ),
    ],
)
def test_both_doors_refuse_the_same_in_the_same_words(doors, through_api, path, body, code, pointer, words) -> None:
    before = doors.rows()
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = doors.ask(path, sent, through_api=through_api)
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (code, "application/problem+json")
    assert re.search(words, problem["detail"])
    assert (problem.get("errors") or [{}])[0].get("pointer") == pointer
    assert doors.rows() == before, "a refused body left rows"


@pytest.mark.parametrize("through_api", [False, True])
def test_a_reward_again_is_counted_and_another_value_is_a_conflict_that_changes_nothing(doors, through_api) -> None:
    def told(value):
        body = orjson.dumps({"decision_id": made["decision_id"], "reward": value})
        answer = doors.ask(REWARDS, body, through_api=through_api)
        assert answer.status_code == 202
        return answer.json()

    made = doors.ask(DECISIONS, orjson.dumps(GOOD), through_api=through_api).json()
    assert told(0.5) == {"accepted": 1, "duplicate": 0, "rejected": []}
    rows = doors.rows()
    assert told(0.5) == {"accepted": 0, "duplicate": 1, "rejected": []}
    conflict = told(0.7)
    assert (conflict["accepted"], conflict["duplicate"]) == (0, 0)
    assert [item["status"] for item in conflict["rejected"]] == [409]
    assert "given 0.7, already kept 0.5" in conflict["rejected"][0]["detail"]
    assert doors.rows() == rows


def test_a_reward_of_an_unknown_decision_is_kept_until_its_decision_comes(doors) -> None:
    decisions, rewards = doors.rows()
    answer = doors.ask(REWARDS, b'{"decision_id":"stranger-1","reward":1}', through_api=True)
    assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
    assert doors.rows() == (decisions, rewards + 1)


def test_a_body_over_the_limit_never_reaches_the_pool_and_is_not_held_whole(doors) -> None:
    asked = 0

    async def endless():
        nonlocal asked
        while True:
            asked += 1
            yield b" " * (1 << 20)

    answer = doors.ask(DECISIONS, endless(), through_api=True)
    assert answer.status_code == 413
    assert answer.json()["cure"] == "Send fewer rows."
    assert asked <= wire.BATCH_LIMIT // (1 << 20) + 2


@pytest.mark.parametrize(
    ("path", "body", "code", "pointer", "words", "cure"),
    [
        ("training", {"env": "CartPole-v1", "learnig_rate": 1}, 422, "/learnig_rate", "no field", "'learning_rate'"),
        ("training", {"env": "CartPole-v1", "learning_rate": "fast"}, 422, "/learning_rate", "valid number", "Correct"),
        ("training", {"env": "CartPole-v1", "total_timesteps": -5}, 422, "/total_timesteps", "given -5", "Correct"),
        ("training", {"env": "CartPoll-v1"}, 404, "/env", "no such env", "CartPole-v1"),
        ("models/import", {"path": "/nonexistent"}, 404, None, "no bundle there", None),
        ("endpoints/cells/rollouts", {"challenger": "x:1", "stages": [25, 5]}, 422, "/", "stages that rise", "Correct"),
        (
            "endpoints/cells/rollouts",
            {"challenger": "x:1", "stages": [150]},
            422,
            "/stages/0",
            "equal to 50",
            "Correct",
        ),
        ("endpoints/cells/rollouts", {"challenger": "x:1"}, 404, None, "no such model", None),
    ],
)
def test_the_api_refuses_by_name_and_keeps_nothing(doors, path, body, code, pointer, words, cure) -> None:
    answer = doors.house.ask("POST", f"/api/v1/{path}", json=body)
    problem = answer.json()
    assert answer.status_code == code
    assert words in problem["detail"]
    assert "Value error" not in problem["detail"]
    assert (problem.get("errors") or [{}])[0].get("pointer") == pointer
    assert cure is None or cure in problem["cure"]
    assert doors.house.ask("GET", "/api/v1/runs").json()["items"] == []


@pytest.fixture(scope="module")
def listener(tmp_path_factory):
    root = tmp_path_factory.mktemp("listener")
    digest = bundles.a_bundle(root / "bundle")
    tables, where = [bundles.a_table(digest)], {digest: str(root / "bundle")}
    with standalone.start(home=root / "home", data=root / "data", tables=tables, bundles=where) as made:
        made.data = root / "data"
        yield made


def test_a_disk_that_takes_no_more_is_answered_told_counted_and_alarmed(listener) -> None:
    """A limit on the size of files is a full disk as the kernel tells it: each write beyond it fails."""
    child = listener.pids[0]
    before = _logged(listener.data)
    _, most = resource.prlimit(child, resource.RLIMIT_FSIZE)
    with httpx.Client(base_url=listener.url) as client:
        first = client.post(DECISIONS, json=GOOD).json()
        assert first["logged"] is True
        resource.prlimit(child, resource.RLIMIT_FSIZE, (16, most))
        lost = [client.post(DECISIONS, json=GOOD) for _ in range(3)]
        batch = client.post(DECISIONS, json={"batch": [GOOD, GOOD]})
        resource.prlimit(child, resource.RLIMIT_FSIZE, (most, most))
        last = client.post(DECISIONS, json=GOOD).json()
    assert {answer.status_code for answer in [*lost, batch]} == {200}
    assert [answer.json()["logged"] for answer in lost] == [False] * 3
    assert [item["logged"] for item in batch.json()["batch"]] == [False] * 2
    assert all(answer.json()["action"] in {0, 1} for answer in lost)
    assert last["logged"] is True
    assert _logged(listener.data) - before == {first["decision_id"], last["decision_id"]}
    port = int(listener.url.rpartition(":")[2])
    assert runtime.counted(port, "rlaas_log_dropped_total") == 5
    assert "5 rows answered without being logged" in status.alarms(port)[0]


def _logged(data: Path) -> set[str]:
    decisions, _, _ = ArrowDecisionLog(str(data)).read("cells", after={})
    return set(decisions.decision_id)


def test_no_rows_lost_is_no_alarm_and_nobody_there_is_none(unused_port) -> None:
    assert status.alarms(unused_port) == []


@pytest.fixture
def unused_port() -> int:
    with runtime.free_ports(["api"]) as ports:
        return ports["api"]


def test_the_sdk_raises_what_was_wrong_by_its_class_and_takes_arrays_as_they_come(listener) -> None:
    with RLaaSClient(listener.url) as client:

        def ask(observation):
            body = {"unit": "u", "observation": observation}
            return client.decide([listener.url], DECISIONS, json=body)[0]

        for good in (np.full(4, 0.1, np.float32), list(np.full(4, 0.1)), tuple(np.arange(4))):
            assert ask(good)["action"] in {0, 1}
        with pytest.raises(errors.BadObservation, match="expected shape") as caught:
            ask([1, 2])
        assert (caught.value.exit_code, caught.value.pointer) == (2, "/observation")
        with pytest.raises(errors.BadJson, match="NaN"):
            ask(np.full(4, np.nan))


ENVS = """
    import gymnasium, numpy as np
    from gymnasium import spaces

    class Fine(gymnasium.Env):
        observation_space, action_space, t = spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(2), 0
        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed); self.t = 0
            return np.zeros(3, np.float32), {}
        def step(self, action):
            self.t += 1
            return np.zeros(3, np.float32), 1.0, False, self.t >= 10, {}
    class Raises(Fine):
        def __init__(self): raise RuntimeError("no licence file found")
    class OldReset(Fine):
        def reset(self, *, seed=None, options=None): return np.zeros(3, np.float32)
    class WrongShape(Fine):
        def reset(self, *, seed=None, options=None): return np.zeros(5, np.float32), {}
    class WrongDtype(Fine):
        def reset(self, *, seed=None, options=None): return np.zeros(3, np.float64), {}
    class OldStep(Fine):
        def step(self, action): return np.zeros(3, np.float32), 1.0, False, {}
    class NanReward(Fine):
        def step(self, action): return np.zeros(3, np.float32), float("nan"), False, False, {}
    class OutOfBox(Fine):
        def step(self, action): return np.full(3, 7, np.float32), 1.0, False, False, {}
    class NotAnEnv: pass
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("user")
    (made / "mine.py").write_text(textwrap.dedent(ENVS))
    (made / "stops.py").write_text("import nosuchlibrary\n")
    (made / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    return made


@pytest.fixture
def rlaas(folder):
    def run(*arguments: str) -> subprocess.CompletedProcess:
        own = {name: value for name, value in os.environ.items() if not name.startswith("RLAAS_")}
        own |= {"RLAAS_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
        command = [*RLAAS, *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True, env=own, cwd=folder, timeout=100)

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "code", "words"),
    [
        ("nosuch:Env", 2, "No module named 'nosuch'"),
        ("stops:Env", 2, "No module named 'nosuchlibrary'"),
        ("mine:Nope", 2, "expected a subclass of gymnasium.Env"),
        ("mine:NotAnEnv", 2, "Let NotAnEnv inherit from gymnasium.Env."),
        ("mine:Raises", 2, "no licence file found"),
        ("mine:OldReset", 2, "reset"),
        ("mine:WrongShape", 2, "an observation of shape (5,)"),
        ("mine:WrongDtype", 2, "float64"),
        ("mine:OldStep", 2, "a tuple of 4"),
        ("mine:NanReward", 3, "reward of step 0 is nan"),
        ("mine:OutOfBox", 3, "outside Box"),
    ],
)
def test_an_env_that_cannot_be_used_is_refused_with_what_it_did(rlaas, env, code, words) -> None:
    done = rlaas("env", "check", env)
    assert done.returncode == code
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("state", "error", "words"),
    [
        ("stopped", None, "somebody asked it to"),
        ("failed", None, "no reason was told"),
        ("failed", {"reason": "lost"}, "lost"),
    ],
)
def test_a_run_that_did_not_succeed_says_why_and_how_it_goes_on(state, error, words) -> None:
    with pytest.raises(errors.WorkFailed, match=words) as caught:
        following.raise_unless_well({"id": "train-1", "state": state, "error": error})
    assert "rlaas runs resume train-1" in caught.value.cure


def test_what_fails_after_its_document_adds_no_second_one(capsys, monkeypatch) -> None:
    monkeypatch.setattr(output, "_answered", False)
    failed = {"id": "train-1", "state": "failed", "error": {"detail": "no licence file found", "cure": "Buy one."}}

    def command(*_, **__) -> None:
        output.document(failed)
        following.raise_unless_well(failed)

    monkeypatch.setattr(main.rlaas, "main", command)
    assert main._run(["train", "--json"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out) == failed
    assert "no licence file found" in printed.err
    assert "Buy one." in printed.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "binary.yaml"], "binary.yaml is not text"),
        (["decide", "cells", "--unit", "u", "--observation", "@nosuch.json"], "nosuch.json"),
        (["models", "verify", "nosuch.tar.zst"], "nosuch.tar.zst"),
    ],
)
def test_files_that_cannot_be_read_are_a_wrong_call(rlaas, arguments, words) -> None:
    done = rlaas(*arguments, "--json")
    assert done.returncode == 2, done.stderr
    problem = json.loads(done.stdout)
    assert words in problem["detail"]
    assert "unexpected" not in problem["detail"]


TAMPERINGS = {
    "a foreign file": (lambda b: (b / "extra.txt").write_text("x"), "a file that no manifest names"),
    "a pickle": (lambda b: (b / "x.pkl").write_bytes(b"\x80\x04."), "a pickle"),
    "a missing file": (lambda b: (b / "golden.safetensors").unlink(), "is missing"),
    "another byte": (lambda b: _flip(b / "weights.safetensors"), "wrong sha256 of weights.safetensors"),
    "a shorter file": (lambda b: (b / "policy.onnx").write_bytes(b"ONNX"), "wrong sha256 of policy.onnx"),
    "another manifest": (lambda b: _edit(b / "manifest.json", algorithm="sac"), "digest"),
    "another format": (lambda b: _edit(b / "manifest.json", format_version=99), "unknown format version"),
    "no manifest": (lambda b: (b / "manifest.json").unlink(), "without manifest.json"),
    "no JSON": (lambda b: (b / "manifest.json").write_text("{"), "not JSON"),
    "a link": (lambda b: _link(b / "card.md"), "a link"),
    "a folder": (lambda b: (b / "more").mkdir(), "a folder"),
}


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def _edit(path: Path, **fields) -> None:
    manifest = json.loads(path.read_text())
    assert fields.keys() <= manifest.keys()
    path.write_text(json.dumps(manifest | fields))


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize("how", TAMPERINGS)
def test_a_tampered_bundle_is_not_imported_and_leaves_nothing(doors, tmp_path, how) -> None:
    tamper, words = TAMPERINGS[how]
    copy = tmp_path / "bundle"
    shutil.copytree(doors.root / "bundle", copy)
    tamper(copy)
    answer = doors.house.ask("POST", "/api/v1/models/import", json={"path": str(copy), "name": "forged"})
    problem = answer.json()
    assert (answer.status_code, problem["title"]) == (409, "tampered")
    assert words in problem["detail"]
    assert errors.from_problem(problem).exit_code == 3
    assert doors.house.ask("GET", "/api/v1/models/forged/versions").status_code == 404
    held = doors.house.home / "bundles"
    assert not held.exists() or not [path for path in held.rglob("*") if path.is_file()], "half of a bundle stayed"


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["verify", "import"])
def test_the_command_line_says_no_to_a_tampered_bundle_with_exit_3(rlaas, doors, tmp_path, verb) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(doors.root / "bundle", copy)
    _flip(copy / "weights.safetensors")
    done = rlaas("models", verb, str(copy), "--json")
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["title"] == "tampered"
    rubbish = tmp_path / "x.tar.zst"
    rubbish.write_bytes(b"rubbish")
    done = rlaas("models", verb, str(rubbish), "--json")
    assert (done.returncode, json.loads(done.stdout)["title"]) == (3, "tampered")
