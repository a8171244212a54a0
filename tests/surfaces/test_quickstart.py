"""The main job as a user runs it: `rlaas quickstart --fast` in a process of its own, in a clean home."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlaas_ray.jobs import processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> dict:
    """One run, its output, its report and which processes it left."""
    folder = tmp_path_factory.mktemp("quickstart")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RLAAS_", "RAY_"))}
    environment |= {
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "RLAAS_URL": "http://127.0.0.1:9",
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.run(
        [sys.executable, "-m", "rlaas_ray.cli", "quickstart", "--fast", "--json", "--out", str(folder / "out")],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    left = [processes.command_line(pid) for pid in processes.marked("HOME", str(folder))]
    return {
        "stdout": process.stdout,
        "stderr": process.stderr,
        "document": json.loads(process.stdout),
        "out": folder / "out",
        "left": left,
        "homes": [p for p in folder.iterdir() if p.name.startswith("rlaas-")],
    }


def test_stdout_is_one_document_and_progress_is_on_stderr(done) -> None:
    assert done["stdout"].count("\n{") == 0
    for number, name in enumerate(
        ("bring up", "serve the heuristic", "train", "score", "find a front", "canary"), start=1
    ):
        assert f"{number}/7 {name}" in done["stderr"]
    assert "ETA" in done["stderr"]


def test_the_policy_learnt_something_and_its_gain_has_an_interval(done) -> None:
    rows = {row["name"]: row for row in done["document"]["scores"]}
    assert set(rows) == {"random", "hold", "grid", "trained", "coordinate_ascent"}
    mean, low, high = rows["trained"]["gain"]
    assert low < mean < high
    assert low > 1.0  # 15 CPU-seconds measure +3.5 over hold
    assert rows["random"]["source"] == rows["coordinate_ascent"]["source"] == "prepared beforehand"
    assert rows["hold"]["source"] == rows["trained"]["source"] == "measured now"


def test_the_front_has_a_chosen_point_and_anchors(done) -> None:
    front = done["document"]["front"]
    assert front["front_size"] > 50
    assert len(front["chosen"]["x"]) == 1092
    assert 0.08 < front["hypervolume"] < 0.3


def test_the_canary_got_a_verdict_from_live_traffic(done) -> None:
    canary = done["document"]["canary"]
    assert canary["state"] in {"promoted", "rolled_back", "aborted", "inconclusive"}
    assert canary["decisions"] == sum(canary["traffic"]["champion"]) + sum(canary["traffic"]["challenger"])
    assert canary["failures"] == 0
    assert len(canary["evidence"]) >= 3
    # A policy that is +0.06 better on the scaled return is found out in about 1,000 networks.
    assert canary["state"] == "promoted"
    assert canary["verdict"]["kind"] == "promote"


def test_the_broken_version_is_rolled_back_and_its_harm_is_counted(done) -> None:
    rollback = done["document"]["rollback"]
    assert rollback["state"] == "rolled_back"
    assert rollback["harmed"] == sum(rollback["traffic"]["challenger"]) > 0
    assert rollback["harmed"] < 0.3 * rollback["decisions"]
    assert "returns are lower" in rollback["verdict"]["reason"]


def test_the_report_lies_there_and_agrees(done) -> None:
    page = (done["out"] / "report.html").read_text()
    assert f"{done['document']['rollback']['harmed']:,}" in page
    told = json.loads((done["out"] / "quickstart.json").read_text())
    assert told["canary"]["state"] == done["document"]["canary"]["state"]


def test_nothing_is_left_behind(done) -> None:
    assert done["left"] == []
    assert done["homes"] == []
    assert not (Path(done["out"]).parent / ".rlaas").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_interrupted_in_training_it_takes_everything_down(tmp_path, number: signal.Signals) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RLAAS_", "RAY_"))}
    environment |= {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "rlaas_ray.cli", "quickstart", "--fast", "--out", str(tmp_path / "out")],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # noqa: PLW1509 - as a shell starts it in the background
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("3/7 train"):
            break
    time.sleep(6)  # into the training's own process
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in told
    assert processes.marked("HOME", str(tmp_path)) == []
    assert [p for p in tmp_path.iterdir() if p.name.startswith("rlaas-")] == []
