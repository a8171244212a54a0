"""The application: every use case of the product under one name, as the API and the CLI see it.

Built by wiring alone. Holds no logic: who looks for a behaviour goes on to the noun's module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlaas_ray.control.choices import Choices
from rlaas_ray.control.endpoints import Endpoints
from rlaas_ray.control.feed import Feed
from rlaas_ray.control.judge import Judge
from rlaas_ray.control.keyring import Keyring
from rlaas_ray.control.loop import Loop
from rlaas_ray.control.models import Models
from rlaas_ray.control.records import Records
from rlaas_ray.control.reports import Reports
from rlaas_ray.control.rollouts import Rollouts
from rlaas_ray.control.runs import Runs
from rlaas_ray.specs.seams import Clock
from rlaas_ray.store import outbox, runs
from rlaas_ray.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """`environments()` describes the envs, `check_env` raises NotFound for an id that nobody has; `cursor_key` signs cursors."""

    database: Database
    clock: Clock
    runs: Runs
    reports: Reports
    models: Models
    endpoints: Endpoints
    rollouts: Rollouts
    feed: Feed
    judge: Judge
    keyring: Keyring
    records: Records
    loop: Loop
    cursor_key: bytes
    environments: Callable[[], Sequence[Mapping[str, Any]]]
    check_env: Callable[[str], None]

    @property
    def choices(self) -> Choices:
        """Points taken from fronts of searches."""
        return Choices(database=self.database, clock=self.clock, runs=self.runs)

    def counts(self) -> list[tuple[str, str, dict[str, float]]]:
        """What a scrape shows: (name, words, label -> value)."""
        with self.database.read() as tx:
            return [
                ("rlaas_runs", "Runs by state", dict(runs.counts(tx))),
                ("rlaas_outbox", "Promised acts by state", dict(outbox.counts(tx))),
                ("rlaas_controller_faults", "Steps of the controller loop that failed", dict(self.loop.faults)),
                ("rlaas_controller_acts", "1 where this process holds the lease", {"lease": float(self.loop.acts)}),
            ]

    def close(self) -> None:
        """Give files and connections back."""
        self.database.close()
