"""TensorBoard and Weights & Biases, told as a run goes on; and the reporter that tells them what the run uses of its machine.

Built by wiring for a run whose spec says `track`. MLflow is told by the API after its own commit (mirror.py). A tracker that
fails is told of once and left out: no run ends because of it. Nothing leaves this machine unless the user asked for it: W&B is
offline unless WANDB_MODE or WANDB_API_KEY says more.
"""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.runs import Progress, Run, RunState
from rlaas_ray.specs.seams import Reporter

_LOG = logging.getLogger(__name__)
Row = Mapping[str, float | int | None]


class Tracker(Protocol):
    """Somewhere that metrics of a run go."""

    name: str

    def metrics(self, rows: Sequence[Row]) -> None:
        """Rows with `step` and `time_us`."""
        ...

    def bundle(self, path: Path, *, name: str) -> None:
        """The run's policy, as this tracker's artifact."""
        ...

    def close(self, state: str) -> None:
        """The run has ended."""
        ...


class TensorBoard(Tracker):
    """Event files below the run's folder; `tensorboard --logdir` (extra `tensorboard`) shows them."""

    name = "tensorboard"

    def __init__(self, run: Run, *, directory: Path) -> None:
        self._writer = importlib.import_module("tensorboardX").SummaryWriter(str(directory / "tensorboard"))
        self._writer.add_text("spec", "\n".join(f"    {name}: {value}" for name, value in run.spec.items()))

    def metrics(self, rows: Sequence[Row]) -> None:
        for row in rows:
            for name, value in _numbers(row):
                self._writer.add_scalar(name, value, int(row["step"] or 0), walltime=_seconds(row))

    def bundle(self, path: Path, *, name: str) -> None:
        card = path / "card.md"
        self._writer.add_text(f"bundle/{name}", card.read_text() if card.exists() else str(path))

    def close(self, state: str) -> None:
        self._writer.close()


class WeightsAndBiases(Tracker):
    """A W&B run of the same id; the bundle is an artifact of type `model`."""

    name = "wandb"

    def __init__(self, run: Run, *, directory: Path, mode: str) -> None:
        try:
            self._library = importlib.import_module("wandb")
        except ImportError:
            raise InvalidInput(
                "track", given="wandb", expected="an installed library", cure="pip install 'rlaas-ray[wandb]'"
            ) from None
        folder = directory / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        self._run = self._library.init(
            project="rlaas",
            id=run.id,
            name=run.name,
            config=dict(run.spec),
            dir=str(directory),
            mode=mode,
            resume="allow",
        )

    def metrics(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._run.log({**dict(_numbers(row)), "time": _seconds(row)}, step=int(row["step"] or 0))

    def bundle(self, path: Path, *, name: str) -> None:
        artifact = self._library.Artifact(name, type="model")
        artifact.add_dir(str(path))
        self._run.log_artifact(artifact)

    def close(self, state: str) -> None:
        self._run.finish(exit_code=0 if state == "succeeded" else 1)


def trackers(run: Run, *, directory: Path, wandb_mode: str) -> list[Tracker]:
    """Those that the run's spec names. Raises InvalidInput where a library is missing."""
    made: dict[str, Callable[[], Tracker]] = {
        "tensorboard": lambda: TensorBoard(run, directory=directory),
        "wandb": lambda: WeightsAndBiases(run, directory=directory, mode=wandb_mode),
    }
    return [made[name]() for name in run.spec.get("track", ())]


class Tracked(Reporter):
    """A reporter that also tells trackers, and adds to the last row of each call what `system` reads."""

    def __init__(
        self, inner: Reporter, *, trackers: Sequence[Tracker], system: Callable[[], Mapping[str, float]]
    ) -> None:
        self._inner = inner
        self._trackers = list(trackers)
        self._system = system

    def claim(self) -> Run:
        return self._inner.claim()

    def beat(self, progress: Progress) -> RunState:
        return self._inner.beat(progress)

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        self._inner.event(kind, data)

    def metrics(self, rows: Sequence[Row]) -> None:
        if rows:
            rows = [*rows[:-1], {**rows[-1], **self._system()}]
        self._inner.metrics(rows)
        self._tell(lambda tracker: tracker.metrics(rows))

    def finish(
        self,
        state: RunState,
        *,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
        checkpoint_uri: str | None = None,
    ) -> None:
        self._tell(lambda tracker: tracker.close(state))
        self._inner.finish(state, result=result, error=error, checkpoint_uri=checkpoint_uri)

    def register(self, bundle: Path, *, name: str, evaluation: Mapping[str, Any] | None) -> Mapping[str, Any]:
        version = self._inner.register(bundle, name=name, evaluation=evaluation)
        self._tell(lambda tracker: tracker.bundle(bundle, name=name))
        return version

    def _tell(self, act: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                act(tracker)
            except Exception as error:  # noqa: BLE001 - whatever a tracker raises, the run goes on
                _LOG.exception("tracker %s", tracker.name)
                self._trackers.remove(tracker)
                self._inner.event("tracker_failed", {"tracker": tracker.name, "detail": str(error)})


def _numbers(row: Row) -> list[tuple[str, float]]:
    return [
        (name, float(value))
        for name, value in row.items()
        if value is not None and name not in {"step", "time_us"} and math.isfinite(value)
    ]


def _seconds(row: Row) -> float:
    return float(row["time_us"] or 0) / 1e6
