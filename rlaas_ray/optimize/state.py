"""The bytes of a search's state: arrays and a JSON header in one npz, without pickle; and the digest of its variables.

Used by search.py alone. Bytes in, bytes out; where they lie is jobs/searching.py's affair.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.optimize import variables
from rlaas_ray.specs.arrays import Array

FORMAT = 1
_HEADER = "header"


def pack(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> bytes:
    """One npz; the same state gives the same bytes."""
    told = json.dumps({"format": FORMAT, **header}, sort_keys=True).encode()
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **{_HEADER: np.frombuffer(told, dtype=np.uint8), **arrays})
    return out.getvalue()


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """Header and arrays. Raises InvalidInput where the bytes are no such state."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        header = json.loads(arrays.pop(_HEADER).tobytes())
        version = header.pop("format")
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise _refused(given=f"{type(error).__name__}: {error}", expected="an npz that a search wrote") from error
    if version != FORMAT:
        raise _refused(given=f"format {version}", expected=f"format {FORMAT}")
    return header, arrays


def check(header: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Whether a state belongs to the search that `about` tells. Raises InvalidInput naming the first difference."""
    for name, wanted in about.items():
        if header.get(name) != wanted:
            raise _refused(given=f"{name} {header.get(name)}", expected=f"{name} {wanted}")


def points(data: bytes, *, variables: str) -> tuple[Any, Any]:
    """The archive's points of a state, x (k, d) and f (k, m), to begin another search from. Raises InvalidInput for others."""
    header, arrays = unpack(data)
    check(header, {"variables": variables})
    return arrays["archive.x"], arrays["archive.f"]


def variables_digest(problem: Any) -> str:
    """SHA-256 of what the variables of a pymoo problem are: how many, of which kind, between which bounds."""
    found = variables.of(problem)
    digest = hashlib.sha256(repr((found.names, found.options, np.dtype(found.dtype).name, found.permutation)).encode())
    for column in (found.kind, found.low, found.high):
        digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()


def _refused(*, given: object, expected: str) -> InvalidInput:
    return InvalidInput(
        "the state of a search",
        given=given,
        expected=expected,
        cure="Resume with the spec that the search began with; a warm start needs the same variables.",
    )
