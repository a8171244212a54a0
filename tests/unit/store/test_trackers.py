"""Trackers: TensorBoard gets the numbers; one that fails does not end a run (W&B: tests/contracts/test_wandb.py)."""

from pathlib import Path

import pytest

from rlaas_ray import errors
from rlaas_ray.specs.runs import Progress, Run
from rlaas_ray.store import trackers
from rlaas_ray.testing.reporter import TwinReporter

ROWS = [{"step": 10, "time_us": 1_000_000, "loss": 1.5, "gone": None}, {"step": 20, "time_us": 2_000_000, "loss": 0.5}]


def a_run(**spec) -> Run:
    return Run(
        id="train-aaaaaaaaaa",
        kind="train",
        name=None,
        spec={"env": "x", **spec},
        spec_digest="d",
        seed=3,
        state="running",
        epoch=1,
        attempt=1,
        place="here",
        created_us=0,
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "bundle"
    path.mkdir()
    (path / "card.md").write_text("# mine")
    return path


def reporter(directory: Path, *, run: Run, system=dict) -> tuple[trackers.Tracked, TwinReporter]:
    twin = TwinReporter(run)
    found = trackers.trackers(run, directory=directory, wandb_mode="offline")
    return trackers.Tracked(twin, trackers=found, system=system), twin


def whole(told: trackers.Tracked, *, bundle: Path) -> None:
    told.claim()
    told.metrics(ROWS)
    told.beat(Progress())
    told.register(bundle, name="mine", evaluation=None)
    told.finish("succeeded", result={"return": 1.0})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_what_was_told(tmp_path: Path, bundle: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told, twin = reporter(tmp_path, run=a_run(track=["tensorboard"]))
    whole(told, bundle=bundle)
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert [(e.step, e.value) for e in found.Scalars("loss")] == [(10, 1.5), (20, 0.5)]
    assert "gone" not in found.Tags()["scalars"]
    assert twin.final is not None


def test_what_the_run_uses_of_its_machine_is_in_the_last_row(tmp_path: Path) -> None:
    told, twin = reporter(tmp_path, run=a_run(), system=lambda: {"system_cpu_percent": 150.0})
    told.metrics(ROWS)
    told.metrics([])
    assert [row.get("system_cpu_percent") for row in twin.rows] == [None, 150.0]


def test_a_tracker_that_fails_is_told_of_once_and_left_out() -> None:
    class Broken(trackers.Tracker):
        name = "broken"
        asked = 0

        def metrics(self, rows) -> None:
            Broken.asked += 1
            msg = "no disk"
            raise OSError(msg)

    twin = TwinReporter(a_run())
    told = trackers.Tracked(twin, trackers=[Broken()], system=dict)
    told.metrics(ROWS)
    told.metrics(ROWS)
    told.finish("succeeded")
    assert twin.events == [("tracker_failed", {"tracker": "broken", "detail": "no disk"})]
    assert Broken.asked == 1
    assert twin.final is not None
    assert len(twin.rows) == 4


def test_a_tracker_whose_library_is_missing_says_how_to_install_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(errors.InvalidInput, match="wandb") as caught:
        trackers.trackers(a_run(track=["wandb"]), directory=tmp_path, wandb_mode="offline")
    assert "rlaas-ray[wandb]" in str(caught.value.cure)
