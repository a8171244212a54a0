"""`rlaas quickstart`: the whole loop on this machine, from a heuristic that serves to a broken version that is caught.

A temporary home, the product's own doors, and at the end a report, its figures as JSON, and a summary. Progress is on
stderr, data on stdout. Ctrl-C takes everything down again.
"""

from __future__ import annotations

import json
import os
import platform
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from rlaas_ray import settings
from rlaas_ray.cli import output
from rlaas_ray.errors import Interrupted

PACKAGES = ("rlaas-ray", "ray", "torch", "numpy", "gymnasium", "pymoo")
# Expected seconds of each phase, for the ETA and for nothing else.
EXPECTED: Mapping[str, tuple[float, float]] = {
    "bring up": (25.0, 5.0),
    "serve the heuristic": (2.0, 1.0),
    "train": (60.0, 24.0),
    "score": (5.0, 4.0),
    "find a front": (14.0, 7.0),
    "canary": (35.0, 22.0),
    "broken version": (14.0, 12.0),
}


@click.command()
@click.option("--fast", is_flag=True, help="The same in under 90 s: shorter training, no supervisor, no Ray cluster.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("rlaas-quickstart"),
    show_default=True,
    help="Folder for report.html and quickstart.json.",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=7, show_default=True, help="Of everything random.")
@output.json_option
def quickstart(*, fast: bool, out: Path, seed: int, as_json: bool) -> None:
    """The whole loop on a laptop, with a report at the end."""
    from rlaas_ray.cli import report

    settings.quiet()
    # A CI job that is cancelled gets SIGTERM, and what a shell puts into the background inherits a SIGINT that is ignored: both
    # take down what was started, as Ctrl-C does.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    out.mkdir(parents=True, exist_ok=True)
    try:
        told = run(fast=fast, seed=seed)
    except KeyboardInterrupt:
        raise Interrupted(
            "quickstart interrupted; everything it started is down again", cure="Start it anew; it keeps no state."
        ) from None
    page = report.write(told, out / "report.html")
    document = told.to_json()
    (out / "quickstart.json").write_text(json.dumps(document, indent=1))
    if as_json:
        output.document({**document, "report": str(page)})
    else:
        for line in summary(told):
            click.echo(line)
        click.echo(f"report       {page}")


def run(*, fast: bool, seed: int) -> Any:
    """All phases; gives the Story. Whatever happens, what was started is down when this returns."""
    import datetime as dt

    import numpy as np

    from rlaas_ray.cli import quickstart_ground as ground
    from rlaas_ray.cli import quickstart_steps as steps
    from rlaas_ray.cli.story import Story

    clock = settings.SystemClock()
    plan = steps.FAST if fast else steps.FULL
    book = Book(fast=fast, clock_s=clock.monotonic_s)
    started = dt.datetime.fromtimestamp(clock.now_us() / 1e6, tz=dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    # Named streams of one seed; append only.
    seeds = [int(s) >> 1 for s in np.random.SeedSequence(seed).generate_state(7, dtype=np.uint32)]
    stand: Callable[[Path], AbstractContextManager[Any]] = ground.fast if fast else ground.full
    with ground.home() as home, book.opening(stand(home)) as client:
        with book.phase("serve the heuristic"):
            endpoint = steps.serve(client)
        with book.phase("train") as tell:
            version, learning = steps.train(client, plan=plan, seed=seeds[0], tell=tell, clock=clock)
        with book.phase("score"):
            champion = steps.champion(endpoint)
            scores, card = steps.score(client, version, champion=champion, plan=plan, seed=seeds[1], folder=home)
            picture = steps.picture(client, version, seed=seeds[1])
        with book.phase("find a front") as tell:
            front = steps.front(client, plan=plan, seed=seeds[2], tell=tell, clock=clock)
        with book.phase("canary") as tell:
            canary = steps.canary(endpoint, version, plan=plan, seeds=(seeds[3], seeds[4]), tell=tell, clock=clock)
        with book.phase("broken version") as tell:
            planted = steps.broken(client, folder=home)
            rollback = steps.caught(endpoint, planted, plan=plan, seeds=(seeds[5], seeds[6]), tell=tell, clock=clock)
    return Story(
        env=steps.ENV,
        mode=steps.MODE,
        seed=seed,
        fast=fast,
        started=started,
        seconds=book.passed_s(),
        scores=scores,
        learning=learning,
        front=front,
        canary=canary,
        rollback=rollback,
        phases=tuple(book.phases.items()),
        machine=machine(),
        versions={name: metadata.version(name) for name in PACKAGES},
        reference=card,
        picture=picture,
    )


class Book:
    """Keeps the time of each phase, and tells how far the whole is."""

    def __init__(self, *, fast: bool, clock_s: Callable[[], float]) -> None:
        self._expected = {name: both[1 if fast else 0] for name, both in EXPECTED.items()}
        self._clock_s = clock_s
        self._began_s = clock_s()
        self.phases: dict[str, float] = {}

    def passed_s(self) -> float:
        """Since the beginning."""
        return self._clock_s() - self._began_s

    @contextmanager
    def phase(self, name: str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        """Times a phase; gives what its progress is told to."""
        began_s = self._clock_s()
        number = list(self._expected).index(name) + 1
        later_s = sum(s for other, s in self._expected.items() if other not in self.phases and other != name)
        with output.Bar(f"{number}/{len(self._expected)} {name}") as bar:

            def tell(progress: Mapping[str, Any]) -> None:
                passed_s = self._clock_s() - began_s
                own_s = progress.get("eta_s")
                left_s = max(self._expected[name] - passed_s, 0.0) if own_s is None else float(own_s)
                fraction = progress.get("fraction") or min(0.95, passed_s / self._expected[name])
                bar.tell({**progress, "fraction": fraction, "eta_s": left_s + later_s})

            tell({"message": f"at {self.passed_s():.0f} s"})
            yield tell
            self.phases[name] = self._clock_s() - began_s
            bar.tell({"fraction": 1.0, "message": f"{self.phases[name]:.1f} s"})

    @contextmanager
    def opening(self, stand: AbstractContextManager[Any]) -> Iterator[Any]:
        """Times the entering of `stand` and its leaving, and leaves it whatever happens."""
        with self.phase("bring up"):
            found = stand.__enter__()
        failed: tuple[Any, Any, Any] = (None, None, None)
        try:
            yield found
        except BaseException as error:
            failed = (type(error), error, error.__traceback__)
            raise
        finally:
            began_s = self._clock_s()
            stand.__exit__(*failed)
            self.phases["take down"] = self._clock_s() - began_s


def summary(told: Any) -> list[str]:
    """The run in a dozen lines."""
    from rlaas_ray.cli import report_trial

    lines = []
    for row in told.scores:
        gain = "" if row.gain is None else f"   {row.gain[0]:+.2f} ({row.gain[1]:+.2f} to {row.gain[2]:+.2f}) over hold"
        lines.append(
            f"{row.name:<18} {row.mean:7.2f} ({row.low:.2f} to {row.high:.2f})  score {row.score:5.1f}{gain}   {row.source}"
        )
    lines.append(
        f"training     {told.learning.total_steps:,} steps of {told.learning.algorithm.upper()} in {told.learning.seconds:.1f} s"
    )
    lines.append(f"front        {told.front['summary']}")
    for trial in (told.canary, told.rollback):
        reason = report_trial.because(trial) or "no verdict in time"
        lines.append(f"{trial.name:<12} {report_trial.ended(trial)}: {reason}")
        lines.append(
            f"             {trial.decisions:,} decisions in {trial.seconds:.1f} s, {trial.harmed:,} of them by {trial.challenger}"
        )
    lines.append(f"took         {told.seconds:.1f} s, seed {told.seed}; only REFERENCE.json was prepared beforehand")
    return lines


def machine() -> dict[str, str]:
    """What this runs on, as far as it explains durations."""
    return {
        "processor": f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
