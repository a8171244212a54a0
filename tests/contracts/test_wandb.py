"""W&B offline keeps a run and its bundle. A process of its own: W&B leaves its service running until the process ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TELLS = """
import sys
from pathlib import Path

from rlaas_ray.specs.runs import Progress, Run
from rlaas_ray.store import trackers
from rlaas_ray.testing.reporter import TwinReporter

folder = Path(sys.argv[1])
run = Run(
    id="train-aaaaaaaaaa", kind="train", name=None, spec={"env": "x", "track": ["wandb"]}, spec_digest="d", seed=3,
    state="running", epoch=1, attempt=1, place="here", created_us=0,
)
twin = TwinReporter(run)
told = trackers.Tracked(twin, trackers=trackers.trackers(run, directory=folder, wandb_mode="offline"), system=dict)
told.claim()
told.metrics([{"step": 10, "time_us": 1_000_000, "loss": 1.5}, {"step": 20, "time_us": 2_000_000, "loss": 0.5}])
told.beat(Progress())
told.register(folder / "bundle", name="mine", evaluation=None)
told.finish("succeeded", result={"return": 1.0})
assert twin.events == [], twin.events
"""


@pytest.mark.slow
def test_wandb_offline_keeps_the_run_and_the_bundle(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "card.md").write_text("# mine")
    own = {name: str(tmp_path / "w") for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "HOME")}
    done = subprocess.run(
        [sys.executable, "-c", TELLS, str(tmp_path)],
        env={**os.environ, **own, "WANDB_SILENT": "true"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    content = file.read_bytes()
    assert b"train-aaaaaaaaaa" in content
    assert b"loss" in content
