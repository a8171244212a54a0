"""Source rates over an episode: constant, a daily wave, bursts, both, or the user's own file.

Called by env.py and by the references, which look ahead. A pure function of the streams: what happens to the job changes no rate.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlaas_ray.envs import philox
from rlaas_ray.envs.stream.graph import Dataflow
from rlaas_ray.errors import InvalidInput, NotFound, nearest
from rlaas_ray.specs.arrays import F64, U32, Bool

KINDS = ("diurnal+burst", "diurnal", "burst", "constant")
INTERVAL_S = 10.0
PERIOD_S = 1800.0
LEVEL, WAVE, BURST = 0.7, 0.4, 0.5
KEEP, NOISE = 0.9, 0.03
BURST_STARTS, BURST_ENDS = 0.01, 0.1
_START, _STEP = 10, 11  # purposes of the generator
_FIELDS = ["step", "source", "rate"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """`wave` and `bursts` say which parts move; `table` (T, s) records/s replaces them. `nominal` (s,) records/s."""

    nominal: F64
    wave: bool = True
    bursts: bool = True
    table: F64 | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weather:
    """What of a trace is carried from step to step: phase (B,) in [0, 1), noise (B,), burst (B,)."""

    phase: F64
    noise: F64
    burst: Bool


def trace(kind: str, *, flow: Dataflow) -> Trace:
    """The trace of a name, or of a CSV file `step,source,rate`. Raises InvalidInput or NotFound."""
    if kind in KINDS:
        return Trace(nominal=flow.nominal, wave="diurnal" in kind, bursts="burst" in kind)
    path = Path(kind)
    if path.suffix != ".csv":
        raise InvalidInput(
            "trace", given=kind, expected=f"{', '.join(KINDS)}, or the path of a .csv", cure=nearest(kind, list(KINDS))
        )
    return Trace(nominal=flow.nominal, table=_table(path, names=[flow.operators[one].name for one in flow.sources]))


def start(streams: philox.Streams) -> Weather:
    """Before the first step: a phase, no noise, no burst."""
    uniform = _uniforms(streams, t=np.zeros(len(streams.seed), np.uint32), purpose=_START)
    zero = np.zeros(len(uniform))
    return Weather(phase=uniform[:, 0].copy(), noise=zero, burst=zero > 0)


def advance(weather: Weather, streams: philox.Streams, *, t: U32) -> Weather:
    """The weather of step t (B,), from that of the step before."""
    uniform = _uniforms(streams, t=t, purpose=_STEP)
    noise = KEEP * weather.noise + NOISE * philox.normals(uniform[:, :2])[:, 0]
    burst = np.where(weather.burst, uniform[:, 2] >= BURST_ENDS, uniform[:, 2] < BURST_STARTS)
    return Weather(phase=weather.phase, noise=noise, burst=burst)


def rates(trace: Trace, weather: Weather, *, t: U32) -> F64:
    """(B, s) records/s of step t (B,)."""
    if trace.table is not None:
        first = (weather.phase * len(trace.table)).astype(np.int64)
        found: F64 = trace.table[(first + t) % len(trace.table)]
        return found
    if not trace.wave and not trace.bursts:
        return np.repeat(trace.nominal[None], len(t), axis=0)
    factor = LEVEL * np.exp(weather.noise)
    if trace.wave:
        factor = factor * (1.0 + WAVE * np.sin(2.0 * np.pi * (t * (INTERVAL_S / PERIOD_S) + weather.phase)))
    if trace.bursts:
        factor = factor * (1.0 + BURST * weather.burst)
    return factor[:, None] * trace.nominal[None]


def path(trace: Trace, streams: philox.Streams, *, steps: int) -> F64:
    """(B, steps, s) the whole episode, for those who look ahead."""
    weather, found = start(streams), []
    for step in range(steps):
        t = np.full(len(streams.seed), step, np.uint32)
        weather = advance(weather, streams, t=t)
        found.append(rates(trace, weather, t=t))
    return np.stack(found, axis=1)


def _uniforms(streams: philox.Streams, *, t: U32, purpose: int) -> F64:
    one = np.zeros(1, np.uint32)
    return philox.u01(streams.words(one, t=t, purpose=one + np.uint32(purpose)))


def _table(path: Path, *, names: Sequence[str]) -> F64:
    if not path.is_file():
        raise NotFound(f"trace {str(path)!r}", given=str(path), expected="a CSV file", cure="Check the path.")
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if rows.fieldnames != _FIELDS:
            raise _wrong(path, given=rows.fieldnames, expected=f"the header {','.join(_FIELDS)}")
        cells = {_cell(path, row, names=names) for row in rows}
    steps = len({step for step, _, _ in cells})
    table = np.full((steps, len(names)), np.nan)
    for step, source, rate in cells:
        if not 0 <= step < steps:
            raise _wrong(path, given=f"step {step}", expected=f"steps from 0 to {steps - 1} without a gap")
        table[step, names.index(source)] = rate
    missing = np.argwhere(np.isnan(table))
    if steps == 0 or len(missing) or len(cells) != table.size:
        given = "no rows" if steps == 0 else f"{len(cells)} different rows"
        raise _wrong(path, given=given, expected=f"one row for each of {steps} steps and {', '.join(names)}")
    return table


def _cell(path: Path, row: dict[str, str], *, names: Sequence[str]) -> tuple[int, str, float]:
    try:
        step, source, rate = int(row["step"]), row["source"], float(row["rate"])
    except (TypeError, ValueError) as error:
        raise _wrong(path, given=row, expected=f"a whole step, a source, a rate: {error}") from None
    if source not in names:
        raise InvalidInput(
            f"trace {path.name!r}", given=source, expected=", ".join(names), cure=nearest(source, list(names))
        )
    if not math.isfinite(rate) or rate < 0:
        raise _wrong(path, given=row, expected="a finite rate of at least 0 records/s")
    return step, source, rate


def _wrong(path: Path, *, given: object, expected: str) -> InvalidInput:
    return InvalidInput(f"trace {path.name!r}", given=given, expected=expected, cure="Correct the file.")
