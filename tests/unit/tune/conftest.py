"""Studies without an API, in this process: whole runs, and the search alone."""

import sys
import threading
from pathlib import Path

import pytest

from rlaas_ray import settings
from rlaas_ray.specs import document
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.tune import TuneSpec
from rlaas_ray.testing.clock import ManualClock
from rlaas_ray.testing.reporter import TwinReporter
from rlaas_ray.tune import journal, population, run, samplers, schedulers, spaces, study
from rlaas_ray.tune.journal import FILE, Journal
from rlaas_ray.tune.trials import Hand

FOLDER = str(Path(__file__).parent)
if FOLDER not in sys.path:
    sys.path.insert(0, FOLDER)


def a_run(spec: TuneSpec) -> Run:
    return Run(
        id="tune-unit",
        kind="tune",
        name=None,
        spec=spec.to_json(),
        spec_digest=spec.digest(),
        seed=spec.seed,
        state="running",
        epoch=1,
        attempt=1,
        place="here",
        created_us=0,
    )


def records(directory: Path) -> list[journal.Record]:
    return journal.read(directory / FILE)[0]


def written(directory: Path) -> dict[int, journal.Trial]:
    """The trials as the journal has them."""
    return journal.trials(records(directory))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tune-unit"


@pytest.fixture
def execute(folder: Path):
    """A whole run of a study (body of a TuneSpec), tables and pictures too; gives its result and its reporter."""

    def go(*, directory=None, stop=None, clock=None, **body):
        spec = document.parse(TuneSpec, {"parallel": 1, **body})
        told = TwinReporter(a_run(spec))
        result = run.execute(
            spec,
            run_id="tune-unit",
            reporter=told,
            clock=clock or settings.SystemClock(),
            directory=directory or folder,
            stop=stop or threading.Event(),
        )
        return result, told

    return go


@pytest.fixture
def search(folder: Path):
    """The search alone; gives its trials, in order."""

    def go(*, directory=None, **body) -> list[journal.Trial]:
        spec = document.parse(TuneSpec, body)
        space, at = spaces.of(spec), directory or folder
        more = {"folder": at / "trials", "told": lambda trial: None}
        with Journal(at / FILE, digest=journal.digest(spec)) as book:
            if spec.scheduler.kind == "pbt":
                source = population.Population(spec, space=space, journal=book, size=spec.trials or 8, **more)
            else:
                sampler = samplers.of(spec, space, parallel=1, warm=[])
                rule = schedulers.of(spec.scheduler, reports=spec.reports)
                limit = run.trials_of(spec, space=space)
                source = study.Study(spec, sampler=sampler, rule=rule, journal=book, limit=limit, **more)
            hand = Hand(spec, clock=ManualClock(), key_file=at / "key")
            study.drive(source, study.InProcess(hand), tick=lambda: "go on")
        return list(source.trials.values())

    return go


@pytest.fixture
def manual() -> ManualClock:
    return ManualClock()
