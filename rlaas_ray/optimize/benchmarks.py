"""ZDT, DTLZ and WFG: pymoo's problems under short names, their fronts as formulas, their hypervolumes in closed form.

`PROBLEMS` is part of problems.py's KNOWN; fronts and hypervolumes serve tests, `benchmarks/fronts.py` and whoever measures a
search. Never asks pymoo for a front: it fetches some of them over the network.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import moocore
import numpy as np
from pymoo.core.problem import Problem
from pymoo.problems.many import dtlz, wfg
from pymoo.problems.multi import zdt

from rlaas_ray.errors import InvalidInput, NotBuilt, nearest
from rlaas_ray.optimize.kernels import directions
from rlaas_ray.specs.arrays import F64

POINTS = 500
_ZDT6_LEAST = 0.2807753191  # of f1: 1 - exp(-4x) sin(6 pi x)^6 at its minimum
_WFG_VARIABLES, _WFG_OBJECTIVES = 24, 3  # k = 4 of position, 20 of distance (Huband et al. 2006)
_ZDT3_PARTS = (
    (0.0, 0.0830015349),
    (0.1822287280, 0.2577623634),
    (0.4093136748, 0.4538821041),
    (0.6183967944, 0.6525117038),
    (0.8233317983, 0.8518328654),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hypervolume:
    """What the whole front dominates below `point` (m,), and how far the number may be from the truth."""

    point: F64
    value: float
    error: float


def _zdt5(**config: Any) -> Problem:  # type: ignore[no-any-unimported]  # pymoo has no types
    """Bits, and both objectives as Zitzler, Deb, Thiele (2000) define them unless `normalize` is asked for."""
    problem = zdt.ZDT5(**{"normalize": False, **config})
    problem.vtype = bool  # pymoo leaves it at float
    return problem


def _wfg(kind: Any) -> Callable[..., Problem]:  # type: ignore[no-any-unimported]  # pymoo has no types
    return functools.partial(kind, n_var=_WFG_VARIABLES, n_obj=_WFG_OBJECTIVES)


PROBLEMS: Mapping[str, Callable[..., Problem]] = {  # type: ignore[no-any-unimported]  # pymoo has no types
    **{f"zdt{k}": getattr(zdt, f"ZDT{k}") for k in (1, 2, 3, 4)},
    "zdt5": _zdt5,
    "zdt6": zdt.ZDT6,
    **{f"dtlz{k}": getattr(dtlz, f"DTLZ{k}") for k in range(1, 8)},
    **{f"wfg{k}": _wfg(getattr(wfg, f"WFG{k}")) for k in range(1, 10)},
}


def front(name: str, *, points: int = POINTS, objectives: int = 3) -> F64:
    """Points of the true front (k, m), at most about `points`; ZDT has two objectives. Raises InvalidInput, NotBuilt."""
    known = _FRONTS.get(name)
    if known is not None:
        return known(points, 2 if name.startswith("zdt") else objectives)
    if name in PROBLEMS:
        raise NotBuilt(
            f"the front of {name}",
            given=name,
            expected=", ".join(_FRONTS),
            cure="WFG1 to 3 have no closed form; compare searches with each other.",
        )
    raise InvalidInput("benchmark problem", given=name, expected=", ".join(_FRONTS), cure=nearest(name, list(_FRONTS)))


def box(name: str, *, objectives: int) -> tuple[F64, F64] | None:
    """Ideal and reference point, so that the hypervolume of a search means the same in every run; None for WFG."""
    if name.startswith("wfg"):
        return None
    nadir = _point(name, objectives=objectives)
    ideal = {"zdt3": [0.0, -0.7733690123], "zdt5": [1.0, 10.0 / 31.0], "zdt6": [_ZDT6_LEAST, 0.0]}.get(name)
    return np.zeros(len(nadir)) if ideal is None else np.array(ideal), nadir


def hypervolume(name: str) -> Hypervolume:
    """That of the whole front with two (ZDT) or three (DTLZ) objectives. Raises InvalidInput, NotBuilt as `front`."""
    exact: Mapping[str, float] = {
        "zdt1": 1.21 - 1.0 / 3.0,
        "zdt2": 1.21 - 2.0 / 3.0,
        "zdt4": 1.21 - 1.0 / 3.0,
        "zdt6": 0.1 * (1.0 - _ZDT6_LEAST) + (1.0 - _ZDT6_LEAST**3) / 3.0 + 0.11,
        "dtlz1": 0.55**3 - 0.5**3 / 6.0,
        **dict.fromkeys(("dtlz2", "dtlz3", "dtlz4"), 1.1**3 - math.pi / 6.0),
    }
    point = _point(name, objectives=2 if name.startswith("zdt") else 3)
    if name in exact:
        return Hypervolume(point=point, value=exact[name], error=1e-9)
    fine, error = {
        "zdt3": (400_001, 1e-5),
        "zdt5": (31, 1e-9),
        "dtlz5": (20_001, 2e-5),
        "dtlz6": (20_001, 2e-5),
        "dtlz7": (601 * 601, 1e-2),
    }.get(name, (POINTS, math.inf))
    return Hypervolume(point=point, value=float(moocore.hypervolume(front(name, points=fine), ref=point)), error=error)


def _point(name: str, *, objectives: int) -> F64:
    special = {"zdt5": [32.0, 11.0], "dtlz1": [0.55] * objectives}
    if name == "dtlz7":
        return np.array([1.1] * (objectives - 1) + [2.2 * objectives])
    if name.startswith("wfg"):
        return 2.2 * np.arange(1, objectives + 1, dtype=np.float64)
    return np.array(special.get(name, [1.1] * (2 if name.startswith("zdt") else objectives)))


def _curve(first: F64, second: F64) -> F64:
    return np.stack([first, second], axis=1)


def _zdt3(points: int, _: int) -> F64:
    each = -(-points // len(_ZDT3_PARTS))
    x = np.concatenate([np.linspace(low, high, each) for low, high in _ZDT3_PARTS])
    f = _curve(x, 1.0 - np.sqrt(x) - x * np.sin(10.0 * np.pi * x))
    return np.asarray(f[moocore.is_nondominated(f)], dtype=np.float64)  # parts meet at their ends, to ten digits


def _convex(points: int, _: int) -> F64:
    x = np.linspace(0.0, 1.0, points)
    return _curve(x, 1.0 - np.sqrt(x))


def _concave(points: int, _: int, *, least: float = 0.0) -> F64:
    x = np.linspace(least, 1.0, points)
    return _curve(x, 1.0 - x**2)


def _bits(_: int, __: int) -> F64:
    x = np.arange(1.0, 32.0)
    return _curve(x, 10.0 / x)


def _plane(points: int, objectives: int) -> F64:
    return 0.5 * directions.fitting(objectives, population_size=points)


def _sphere(points: int, objectives: int) -> F64:
    direction = directions.fitting(objectives, population_size=points)
    return np.asarray(direction / np.linalg.norm(direction, axis=1, keepdims=True), dtype=np.float64)


def _wfg_sphere(points: int, objectives: int) -> F64:
    return 2.0 * np.arange(1.0, objectives + 1.0) * _sphere(points, objectives)


def _degenerate(points: int, objectives: int) -> F64:
    """DTLZ5 and 6: every angle but the first is pi/4. (cos t, cos t, sqrt(2) sin t) / sqrt(2) for three objectives."""
    t = np.linspace(0.0, np.pi / 2.0, points)
    half = math.sqrt(0.5)
    columns = [np.cos(t) * half ** (objectives - 2)]
    columns += [np.cos(t) * half ** (objectives - 1 - k) for k in range(1, objectives - 1)]
    return np.stack([*columns, np.sin(t)], axis=1)


def _disconnected(points: int, objectives: int) -> F64:
    """DTLZ7: an even grid over all objectives but the last, without its dominated points."""
    each = max(2, round(points ** (1.0 / (objectives - 1))))
    axes = np.meshgrid(*[np.linspace(0.0, 1.0, each)] * (objectives - 1), indexing="ij")
    x = np.stack([axis.ravel() for axis in axes], axis=1)
    last = 2.0 * objectives - (x * (1.0 + np.sin(3.0 * np.pi * x))).sum(axis=1, keepdims=True)
    f = np.concatenate([x, last], axis=1)
    return np.asarray(f[moocore.is_nondominated(f)], dtype=np.float64)


_FRONTS: Mapping[str, Callable[[int, int], F64]] = {
    "zdt1": _convex,
    "zdt2": _concave,
    "zdt3": _zdt3,
    "zdt4": _convex,
    "zdt5": _bits,
    "zdt6": functools.partial(_concave, least=_ZDT6_LEAST),
    "dtlz1": _plane,
    **dict.fromkeys(("dtlz2", "dtlz3", "dtlz4"), _sphere),
    **dict.fromkeys(("dtlz5", "dtlz6"), _degenerate),
    "dtlz7": _disconnected,
    **{f"wfg{k}": _wfg_sphere for k in range(4, 10)},
}
