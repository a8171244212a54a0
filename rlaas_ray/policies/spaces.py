"""The only encoder: raw observations of any supported space -> float32 rows; and spaces as JSON.

Dict keys sorted, Discrete and MultiDiscrete one-hot, Box in C order, Tuple in order, a top-level `action_mask` split out
first. Used by training, export, serving and evaluation alike; never guesses: what it cannot encode it refuses by name.

`n` rows of a batch, `d` encoded entries, `a` action entries. A batch of a Dict is a dict of batches or a list of dicts, a
batch of a Tuple a tuple of batches or a list of tuples, anything else an array or list with the batch axis first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces as gs

from rlaas_ray.errors import BadObservation, InvalidInput, NotBuilt
from rlaas_ray.specs.arrays import F32, F64, Array, Bool

Space = gs.Space[Any]
MASK = "action_mask"
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_MAX_ENTRIES = 4_000_000  # a space read from a file may not ask for more memory than this many numbers
_MAX_DEPTH = 16
_SUPPORTED = "Box, Discrete, MultiDiscrete, MultiBinary, Dict or Tuple"


# --- observations -----------------------------------------------------------------------------------------------------


def encoded_size(space: Space) -> int:
    """How many float32 entries an observation of `space` has once encoded (without its action mask)."""
    space = _without_mask(space)
    match space:
        case gs.Box():
            _refuse_image(space)
            return math.prod(space.shape)
        case gs.Discrete():
            return int(space.n)
        case gs.MultiDiscrete():
            return int(space.nvec.sum())
        case gs.MultiBinary():
            return math.prod(space.shape)
        case gs.Dict():
            return sum(encoded_size(space.spaces[key]) for key in sorted(space.spaces))
        case gs.Tuple():
            return sum(encoded_size(part) for part in space.spaces)
        case _:
            raise _unsupported(space)


def encode(space: Space, observations: Any) -> F32:
    """Rows (n, d) float32 of a trusted batch (an env's). Shapes are checked, finiteness is not: see `encode_one`."""
    if type(space) is gs.Box:  # the hot path: one flat Box
        return _encode_box(space, observations)
    return _encode(_without_mask(space), observations)


def encode_one(space: Space, observation: Any) -> F32:
    """The row (d,) of one untrusted observation. Raises BadObservation as `check` does."""
    if type(space) is gs.Box:  # the hot path again: no recursion, no concatenation
        return _checked_box(space, observation, where="/observation").reshape(-1)
    check(space, observation)
    rows = encode(space, [observation])
    return rows.reshape(-1)


def action_mask(space: Space, observations: Any) -> Bool | None:
    """The batch's masks (n, m), true where an action may be taken; None where the space has no top-level `action_mask`."""
    if not isinstance(space, gs.Dict) or MASK not in space.spaces:
        return None
    column = _column(observations, key=MASK)
    mask = np.asarray(column)
    return mask.reshape(len(mask), -1) > 0


def mask_size(space: Space) -> int:
    """Entries of an action mask of this space; 0 where it has none."""
    if not isinstance(space, gs.Dict) or MASK not in space.spaces:
        return 0
    return int(np.prod(space.spaces[MASK].shape or ()))


def check(space: Space, observation: Any, *, where: str = "/observation") -> None:
    """Refuses what is not one observation of `space`: BadObservation names the field, what was given and what is wanted.

    Values outside the declared bounds of a Box pass: declared bounds are loose in practice, and envs themselves overstep them.
    """
    match space:
        case gs.Box():
            _checked_box(space, observation, where=where)
        case gs.Discrete():
            _check_integer(observation, low=int(space.start), n=int(space.n), where=where)
        case gs.MultiDiscrete():
            _check_multi_discrete(space, observation, where=where)
        case gs.MultiBinary():
            values = _numbers(observation, shape=space.shape, wanted="0 or 1", where=where)
            if not np.isin(values, (0, 1)).all():
                raise _bad(where, given=observation, expected="zeros and ones")
        case gs.Dict():
            _check_keys(space, observation, where=where)
            for key in sorted(space.spaces):
                check(space.spaces[key], observation[key], where=f"{where}/{key}")
        case gs.Tuple():
            _check_length(space, observation, where=where)
            for i, part in enumerate(space.spaces):
                check(part, observation[i], where=f"{where}/{i}")
        case _:
            raise _unsupported(space)


def _encode(space: Space, observations: Any) -> F32:
    match space:
        case gs.Box():
            return _encode_box(space, observations)
        case gs.Discrete():
            return _one_hot(_rows(observations, shape=()), sizes=[int(space.n)], starts=[int(space.start)])
        case gs.MultiDiscrete():
            sizes, starts = space.nvec.ravel().tolist(), space.start.ravel().tolist()
            return _one_hot(_rows(observations, shape=space.nvec.shape), sizes=sizes, starts=starts)
        case gs.MultiBinary():
            return _rows(observations, shape=space.shape).astype(np.float32)
        case gs.Dict():
            keys = sorted(space.spaces)
            return _joined([_encode(space.spaces[key], _column(observations, key=key)) for key in keys])
        case gs.Tuple():
            by_column = isinstance(observations, tuple)
            columns = observations if by_column else [list(c) for c in zip(*observations, strict=True)]
            if len(columns) != len(space.spaces):
                raise _bad("/observation", given=f"{len(columns)} parts", expected=f"{len(space.spaces)} parts")
            return _joined([_encode(part, column) for part, column in zip(space.spaces, columns, strict=True)])
        case _:
            raise _unsupported(space)


def _encode_box(space: gs.Box, observations: Any) -> F32:
    if space.dtype == np.uint8:
        _refuse_image(space)
    rows = np.asarray(observations, dtype=np.float32)
    if rows.shape[1:] != space.shape or rows.ndim == 0:
        raise _bad("/observation", given=f"a batch of shape {rows.shape}", expected=f"(n, *{space.shape})")
    return rows if rows.ndim == 2 else np.ascontiguousarray(rows).reshape(len(rows), math.prod(space.shape))


def _one_hot(rows: Array, *, sizes: list[int], starts: list[int]) -> F32:
    """Rows (n, c) of integers -> (n, sum(sizes))."""
    index = rows.astype(np.int64) - np.asarray(starts, dtype=np.int64)
    if ((index < 0) | (index >= np.asarray(sizes))).any() or (rows != rows.astype(np.int64)).any():
        ranges = [f"{s}..{s + n - 1}" for s, n in zip(starts, sizes, strict=True)]
        raise _bad("/observation", given=rows.tolist()[:4], expected=f"integers in {', '.join(ranges[:8])}")
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    out = np.zeros((len(rows), sum(sizes)), dtype=np.float32)
    np.put_along_axis(out, index + offsets, 1.0, axis=1)
    return out


def _rows(observations: Any, *, shape: tuple[int, ...]) -> Array:
    """The batch as a two-dimensional array (n, prod(shape))."""
    rows = np.asarray(observations)
    if rows.ndim == 0 or rows.shape[1:] != shape or rows.dtype.kind not in "iufb":
        raise _bad("/observation", given=f"{rows.dtype} batch of shape {rows.shape}", expected=f"numbers (n, *{shape})")
    return rows.reshape(len(rows), math.prod(shape))


def _column(observations: Any, *, key: str) -> Any:
    if isinstance(observations, Mapping):
        return observations[key]
    return [row[key] for row in observations]


def _joined(parts: list[F32]) -> F32:
    if not parts:
        raise NotBuilt("an observation space without parts", expected=_SUPPORTED, cure="Give the env an observation.")
    return np.concatenate(parts, axis=1)


def _without_mask(space: Space) -> Space:
    if isinstance(space, gs.Dict) and MASK in space.spaces:
        return gs.Dict({key: part for key, part in space.spaces.items() if key != MASK})
    return space


# --- one observation, checked -----------------------------------------------------------------------------------------


def _checked_box(space: gs.Box, observation: Any, *, where: str) -> F32:
    if space.dtype == np.uint8:
        _refuse_image(space)
    values = _numbers(observation, shape=space.shape, wanted="numbers", where=where)
    # One comparison refuses NaN, infinity and what float32 cannot hold.
    if not (np.abs(values).max(initial=0.0) <= _FLOAT32_MAX):
        flat = values.ravel().tolist()
        i = next(i for i, value in enumerate(flat) if not abs(value) <= _FLOAT32_MAX)
        raise _bad(f"{where}/{i}", given=flat[i], expected="a finite float32")
    return values.astype(np.float32)


def _numbers(observation: Any, *, shape: tuple[int, ...], wanted: str, where: str) -> Array:
    try:
        values = np.asarray(observation)
    except (TypeError, ValueError, OverflowError):
        raise _bad(where, given=observation, expected=f"{wanted} of shape {shape}") from None
    if values.shape != shape:
        raise _bad(where, given=f"shape {values.shape}", expected=f"shape {shape}")
    if values.dtype.kind not in "fiub":  # text that looks like numbers and null arrive as 'U' and 'O'
        raise _bad(where, given=observation, expected=f"{wanted} of shape {shape}")
    return values


def _check_integer(value: Any, *, low: int, n: int, where: str) -> None:
    if isinstance(value, np.ndarray | np.generic) and np.ndim(value) == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value < low + n:
        raise _bad(where, given=value, expected=f"an integer from {low} to {low + n - 1}")


def _check_multi_discrete(space: gs.MultiDiscrete, observation: Any, *, where: str) -> None:
    values = _numbers(observation, shape=space.nvec.shape, wanted="integers", where=where)
    for i, (value, n, start) in enumerate(zip(values.ravel(), space.nvec.ravel(), space.start.ravel(), strict=True)):
        _check_integer(value, low=int(start), n=int(n), where=f"{where}/{i}")


def _check_length(space: gs.Tuple, observation: Any, *, where: str) -> None:
    parts = f"a list of {len(space.spaces)} parts"
    if not isinstance(observation, Sequence) or isinstance(observation, str | bytes):
        raise _bad(where, given=observation, expected=parts)
    if len(observation) != len(space.spaces):
        raise _bad(where, given=f"{len(observation)} parts", expected=parts)


def _check_keys(space: gs.Dict, observation: Any, *, where: str) -> None:
    if not isinstance(observation, Mapping):
        raise _bad(where, given=observation, expected=f"an object with {sorted(space.spaces)}")
    for key in sorted(space.spaces):
        if key not in observation:
            raise _bad(
                f"{where}/{key}", given="nothing", expected=f"this field; the object needs {sorted(space.spaces)}"
            )
    for key in observation:
        if key not in space.spaces:
            raise _bad(f"{where}/{key}", given=key, expected=f"only {sorted(space.spaces)}")


def _bad(where: str, *, given: Any, expected: str) -> BadObservation:
    return BadObservation(
        f"observation does not fit its space at {where}",
        given=given,
        expected=expected,
        cure="The endpoint's `observation_space` and `example` show what it takes.",
        pointer=where,
    )


def _refuse_image(space: gs.Box) -> None:
    if space.dtype == np.uint8 and len(space.shape) >= 2:
        raise NotBuilt(
            "image observations",
            given=f"Box{space.shape} uint8",
            expected="numbers",
            cure="Wrap the env so that it gives features, or float32 pixels.",
        )


def _unsupported(space: Space) -> NotBuilt:
    return NotBuilt("this kind of space", given=space, expected=_SUPPORTED, cure="Wrap the env into such a space.")


# --- actions ----------------------------------------------------------------------------------------------------------


def action_size(space: Space) -> int:
    """Entries `a` of an action row: 1 for Discrete, one per component or number otherwise."""
    match space:
        case gs.Discrete():
            return 1
        case gs.MultiDiscrete():
            return int(space.nvec.size)
        case gs.Box():
            return math.prod(space.shape)
        case _:
            raise NotBuilt(
                "this kind of action space", given=space, expected="Discrete, MultiDiscrete or Box", cure="Wrap it."
            )


def actions(space: Space, rows: F64) -> Array:
    """Action rows (n, a) as the batch that a vector env of this action space takes."""
    match space:
        case gs.Discrete():
            return rows[:, 0].astype(space.dtype)
        case gs.MultiDiscrete():
            return rows.astype(space.dtype).reshape(len(rows), *space.nvec.shape)
        case _:
            return rows.astype(space.dtype).reshape(len(rows), *(space.shape or ()))


def action_to_json(space: Space, action: F64) -> int | list[Any]:
    """One action row (a,) as JSON values in the space's shape: an int for Discrete, else (nested) lists."""
    if isinstance(space, gs.Discrete):
        return int(action[0])
    shaped = action.reshape(space.shape or ())
    values: list[Any] = (
        shaped.astype(np.int64).tolist() if isinstance(space, gs.MultiDiscrete) else list(shaped.tolist())
    )
    return values


# --- JSON -------------------------------------------------------------------------------------------------------------


def to_json(space: Space) -> dict[str, Any]:
    """The space as JSON values; infinities are the strings "inf" and "-inf". `from_json` gives an equal space."""
    match space:
        case gs.Box():
            bounds = {"low": _bounds_to_json(space.low), "high": _bounds_to_json(space.high)}
            return {"type": "Box", "shape": list(space.shape), "dtype": str(space.dtype), **bounds}
        case gs.Discrete():
            return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
        case gs.MultiDiscrete():
            return {"type": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
        case gs.MultiBinary():
            return {"type": "MultiBinary", "n": space.n if np.ndim(space.n) == 0 else list(space.shape)}
        case gs.Dict():
            return {"type": "Dict", "spaces": {key: to_json(space.spaces[key]) for key in sorted(space.spaces)}}
        case gs.Tuple():
            return {"type": "Tuple", "spaces": [to_json(part) for part in space.spaces]}
        case _:
            raise _unsupported(space)


def from_json(body: Any, *, depth: int = 0) -> Space:
    """The space that `to_json` wrote. Raises InvalidInput on anything else."""
    if not isinstance(body, Mapping) or depth > _MAX_DEPTH:
        raise _bad_space(body)
    try:
        return _from_json(body, depth=depth)
    except InvalidInput:
        raise
    except (KeyError, TypeError, ValueError, AssertionError, OverflowError) as error:
        raise _bad_space(body, why=str(error)) from None


def _from_json(body: Mapping[str, Any], *, depth: int) -> Space:
    keys = set(body) - {"type"}
    match body.get("type"):
        case "Box" if keys == {"low", "high", "shape", "dtype"}:
            return _box(body)
        case "Discrete" if keys == {"n", "start"} and 0 < body["n"] <= _MAX_ENTRIES:
            return gs.Discrete(int(body["n"]), start=int(body["start"]))
        case "MultiDiscrete" if keys == {"nvec", "start"}:
            nvec = np.asarray(body["nvec"], dtype=np.int64)
            if 0 < nvec.size <= _MAX_ENTRIES and nvec.sum() <= _MAX_ENTRIES:
                return gs.MultiDiscrete(nvec, start=np.asarray(body["start"], dtype=np.int64))
        case "MultiBinary" if keys == {"n"}:
            n = body["n"]
            return gs.MultiBinary(_shape([n])[0] if isinstance(n, int) else _shape(n))
        case "Dict" if keys == {"spaces"}:
            return gs.Dict({str(key): from_json(part, depth=depth + 1) for key, part in body["spaces"].items()})
        case "Tuple" if keys == {"spaces"}:
            return gs.Tuple([from_json(part, depth=depth + 1) for part in body["spaces"]])
    raise _bad_space(body)


def _box(body: Mapping[str, Any]) -> gs.Box:
    shape, dtype = _shape(body["shape"]), np.dtype(str(body["dtype"]))
    if dtype.kind not in "fiub":
        raise _bad_space(body, why=f"dtype {dtype}")
    low, high = (np.asarray(_bounds_from_json(body[k]), dtype=dtype).reshape(shape) for k in ("low", "high"))
    return gs.Box(low, high, shape=shape, dtype=dtype.type)


def _shape(values: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(int(value) for value in values)
    if any(size < 1 for size in shape) or math.prod(shape) > _MAX_ENTRIES:
        raise _bad_space(list(values), why="shape")
    return shape


def _bounds_to_json(bounds: Array) -> list[float | str]:
    return [value if math.isfinite(value) else str(value) for value in bounds.ravel().tolist()]


def _bounds_from_json(bounds: Sequence[float | str]) -> list[float]:
    if any(isinstance(value, str) and value not in {"inf", "-inf"} for value in bounds):
        raise _bad_space(list(bounds)[:4], why="a bound")
    return [float(value) if isinstance(value, str) else value for value in bounds]


def _bad_space(body: Any, *, why: str = "") -> InvalidInput:
    return InvalidInput(f"not a space{': ' + why if why else ''}", given=body, expected=f"the JSON of {_SUPPORTED}")
