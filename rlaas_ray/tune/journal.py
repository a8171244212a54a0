"""The journal of a study: append-only lines of JSON, read again after kill -9; what was told there is never run again.

Written by the sources of trials (study.py, population.py). A torn last line is cut off: what it said did not happen. `told` and
`failed` are on the disk (fsync) before the next trial is asked for. Knows no sampler and no executor.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Self

import orjson

from rlaas_ray.errors import Conflict, InvalidInput, NotFound
from rlaas_ray.specs.tune import TuneSpec

FILE, FORMAT = "study.jsonl", 1
_SYNCED = frozenset({"study", "told", "failed", "moved"})
_FREE = ("trials", "parallel", "time_limit_s", "executor", "name", "place")  # may change from attempt to attempt


@dataclass(slots=True, kw_only=True, eq=False)
class Trial:
    """One trial as the journal tells it."""

    number: int
    parameters: dict[str, Any]
    state: str = "running"  # completed, stopped (early), failed
    reports: list[dict[str, Any]] = field(default_factory=list)  # {"step": n, metrics}
    values: list[float] | None = None  # of the objectives: means over the seeds
    violations: list[float] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    seeds: list[dict[str, Any]] = field(default_factory=list)  # of each seed: its metrics, and the bundles it left
    seconds: float | None = None
    error: dict[str, Any] | None = None

    @property
    def step(self) -> int:
        """The last report, 0 before the first."""
        return int(self.reports[-1]["step"]) if self.reports else 0

    @property
    def ended(self) -> bool:
        """Whether it will not run again."""
        return self.state != "running"

    @property
    def feasible(self) -> bool:
        """Completed, within all constraints."""
        return self.state == "completed" and all(violation <= 0 for violation in self.violations)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Record:
    """One line, as it was written."""

    kind: str
    data: Mapping[str, Any]


class Journal:
    """An open journal; `records` are those that lay there when it was opened."""

    def __init__(self, path: Path, *, digest: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        try:
            _lock(self._file, path=path)
            self.records, kept = read(path)
            if self.records:
                _check(self.records[0], path=path, digest=digest)
        except BaseException:
            self._file.close()
            raise
        if self._file.tell() > kept:
            self._file.truncate(kept)
        if not self.records:
            self.add("study", format=FORMAT, digest=digest)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def add(self, kind: str, **data: Any) -> None:
        """Append one line; safe from a killed process at once, from a lost power supply when it tells an end."""
        self._file.write(orjson.dumps({"kind": kind, **data}, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        self._file.flush()
        if kind in _SYNCED:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """No more lines."""
        self._file.close()


def digest(spec: TuneSpec) -> str:
    """What must not change between attempts: space, search, objective, training; not how many trials, nor with how many hands."""
    fixed = {name: value for name, value in spec.to_json().items() if name not in _FREE}
    return hashlib.sha256(orjson.dumps(fixed, option=orjson.OPT_SORT_KEYS)).hexdigest()


def trials(records: list[Record]) -> dict[int, Trial]:
    """Every trial by its number, as the last line about it says."""
    found: dict[int, Trial] = {}
    for record in records:
        data = dict(record.data)
        if record.kind == "asked":
            found[data["trial"]] = Trial(number=data["trial"], parameters=data["parameters"])
        elif record.kind in {"reported", "told", "failed", "moved"}:
            apply(found[data.pop("trial")], kind=record.kind, data=data)
    return found


def apply(trial: Trial, *, kind: str, data: Mapping[str, Any]) -> None:
    """What one line says of its trial."""
    match kind:
        case "reported":
            trial.reports.append(dict(data))
        case "moved":
            trial.parameters = dict(data["parameters"])
        case "failed":
            trial.state, trial.error = "failed", dict(data["error"])
        case _:
            trial.state = data["state"]
            trial.values, trial.violations = data["values"], data["violations"]
            trial.metrics, trial.seeds = data["metrics"], data["seeds"]
    trial.seconds = data.get("seconds", trial.seconds)


def earlier(reference: str, *, runs: Path) -> list[Trial]:
    """The completed trials of another study: a run id, its folder, or its journal. Raises NotFound."""
    candidates = [runs / reference / FILE, Path(reference), Path(reference) / FILE]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise NotFound("no such study", given=reference, expected=f"a run id of `rlaas tune`, or a path to its {FILE}")
    records, _ = read(path)
    return [trial for trial in trials(records).values() if trial.state == "completed"]


def read(path: Path) -> tuple[list[Record], int]:
    """The lines that are whole, and where they end."""
    raw = path.read_bytes()
    kept = raw.rfind(b"\n") + 1
    return [Record(kind=line.pop("kind"), data=line) for line in _lines(raw[:kept], path=path)], kept


def _lock(file: BinaryIO, *, path: Path) -> None:
    """One writer; the lock goes with its process, however that ends."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Conflict(
            f"the study in {path} is open in another process", cure="Wait until that one has ended, or end it."
        ) from None


def _lines(raw: bytes, *, path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(raw.splitlines(), 1):
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise InvalidInput(
                f"line {number} of the journal {path}",
                given=str(error),
                expected="one JSON object",
                cure="Restore it from a backup, or delete the journal to begin the study anew.",
            ) from None
        yield found


def _check(first: Record, *, path: Path, digest: str) -> None:
    if first.kind != "study" or first.data.get("format") != FORMAT:
        raise InvalidInput(f"the journal {path}", given=first.kind, expected=f"a study of format {FORMAT}")
    if first.data["digest"] != digest:
        raise Conflict(
            f"the study in {path} searched another space",
            given=digest[:12],
            expected=str(first.data["digest"])[:12],
            cure="Resume it with its own spec, or start a new study with `warm_start` from this one.",
        )
