"""Calls into users' algorithms: what they raise becomes our error with their line in it, and what they give is checked.

Used by everything in this folder that calls one. Never calls one itself.
"""

from __future__ import annotations

import contextlib
import math
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlaas_ray.errors import InvalidInput, RlaasError, WorkFailed
from rlaas_ray.specs.arrays import F32, Array


@contextlib.contextmanager
def theirs(target: str, method: str) -> Iterator[None]:
    """Whatever foreign code raises comes out as WorkFailed, with the line that raised."""
    try:
        yield
    except RlaasError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise WorkFailed(
            f"{method} of {target} failed",
            given=f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})",
            expected="a call that returns",
            cure=f"`rlaas algorithms check {target}` calls every method alone.",
        ) from error


def actions(given: Any, *, rows: int, entries: int, target: str) -> Array:
    """Actions as (rows, entries). Raises InvalidInput for another shape, or what is not a finite number."""
    found = np.asarray(given)
    shaped = found[:, None] if found.shape == (rows,) and entries == 1 else found
    if shaped.shape != (rows, entries) or shaped.dtype.kind not in "iufb" or not np.isfinite(shaped).all():
        raise InvalidInput(
            f"action of {target}",
            given=f"{found.dtype} of shape {found.shape}",
            expected=f"finite numbers of shape ({rows}, {entries})"
            + (f" or ({rows},)" if entries == 1 else "")
            + ", one row for each observation",
            cure="choose_action gets a batch, and answers with ActionOut(action=...) for all of it.",
        )
    return shaped


def column(given: Any, *, like: tuple[int, ...], name: str, target: str) -> F32:
    """What ActionOut tells beside actions, as float32 with the leading axes `like`. Raises InvalidInput."""
    found: F32 = np.asarray(given, dtype=np.float32)
    if found.shape[: len(like)] != like:
        raise InvalidInput(
            f"{name} of {target}",
            given=found.shape,
            expected=f"{like} first",
            cure="One row for each observation, or None.",
        )
    return found


def arrays(given: Any, *, target: str) -> dict[str, Array]:
    """Copies of what `state` gives, for a checkpoint. Raises InvalidInput for anything but named arrays of numbers."""
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise InvalidInput(
            f"state of {target}", given=type(given).__name__, expected="a dict of arrays by name", cure="Return one."
        )
    found = {name: np.array(value) for name, value in given.items()}
    for name, array in found.items():
        if array.dtype.kind not in "iufb":
            raise InvalidInput(
                f"state of {target}",
                given=f"{name}: {array.dtype}",
                expected="arrays of numbers",
                cure="Keep text and settings in config; a generator's state as its integers, or seed it anew from a counter.",
            )
    return {name: np.ascontiguousarray(array) for name, array in found.items()}


def numbers(given: Any) -> dict[str, float]:
    """The finite numbers of metrics: of a mapping by name, of a list their mean, of a number itself as `metric`."""
    if isinstance(given, Mapping):
        means = {str(name): _mean(value) for name, value in given.items()}
    elif isinstance(given, Sequence) and given and all(isinstance(item, Mapping) for item in given):
        names = {str(name) for item in given for name in item}
        means = {name: _mean([item[name] for item in given if name in item]) for name in sorted(names)}
    else:
        means = {"metric": _mean(given)}
    return {name: value for name, value in means.items() if value is not None}


def _mean(value: Any) -> float | None:
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str | bytes | Mapping) or value is None:
        return None
    try:
        found = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return float(found.mean()) if found.size and np.isfinite(found).all() else None
