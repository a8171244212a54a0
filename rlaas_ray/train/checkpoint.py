"""Checkpoints of a training: plain arrays and a signed manifest, whole or not there at all; the newest two are kept.

Written and read by runner.py. No pickle: RLlib's own checkpoints are pickles and are not used for runs. What is signed with
another installation's key, or changed since, is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from rlaas_ray.errors import NotFound, Tampered
from rlaas_ray.train import ledger as ledgers
from rlaas_ray.train.ledger import Ledger
from rlaas_ray.train.seam import State

FORMAT = 1
KEPT = 2
_STATE, _MANIFEST, _PREFIX = "state.safetensors", "manifest.json", "iteration-"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """A run at the end of an iteration."""

    state: State  # the trainer's own arrays
    ledger: Ledger
    spec_digest: str


def save(directory: Path, checkpoint: Checkpoint, *, key: bytes) -> Path:
    """Writes `directory/iteration-N` by temp folder, fsync and rename, then removes all but the newest two."""
    directory.mkdir(parents=True, exist_ok=True)
    state = safetensors.numpy.save(
        {
            **{name: np.ascontiguousarray(array) for name, array in checkpoint.state.items()},
            **{f"ledger.{name}": np.ascontiguousarray(array) for name, array in checkpoint.ledger.arrays().items()},
        }
    )
    body = {
        "format": FORMAT,
        "iteration": checkpoint.ledger.iteration,
        "steps": checkpoint.ledger.steps,
        "spec_digest": checkpoint.spec_digest,
        "sha256": hashlib.sha256(state).hexdigest(),
    }
    manifest = json.dumps({**body, "signature": _sign(body, key=key)}, indent=2).encode()
    final = directory / f"{_PREFIX}{checkpoint.ledger.iteration:09d}"
    partial = directory / f".{final.name}.{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for name, data in ((_STATE, state), (_MANIFEST, manifest)):
        _write(partial / name, data)
    _sync_folder(partial)
    if final.exists():
        shutil.rmtree(final)
    partial.rename(final)
    _sync_folder(directory)
    for old in found(directory)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def found(directory: Path) -> list[Path]:
    """Checkpoints below `directory`, oldest first."""
    return sorted(path for path in directory.glob(f"{_PREFIX}*") if (path / _MANIFEST).is_file())


def load(path: Path, *, key: bytes) -> Checkpoint:
    """The checkpoint in `path`, or the newest below it. Raises NotFound, Tampered."""
    folder = path if (path / _MANIFEST).is_file() else next(reversed(found(path)), None)
    if folder is None:
        raise NotFound(
            "checkpoint", given=str(path), expected="a folder with manifest.json", cure="Start the run anew."
        )
    try:
        body = json.loads((folder / _MANIFEST).read_bytes())
        state = (folder / _STATE).read_bytes()
        signature = str(body.pop("signature"))
        wanted, version = body["sha256"], body["format"]
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise _refused(folder, given=f"{type(error).__name__}: {error}", expected="a whole checkpoint") from error
    if version != FORMAT:
        raise _refused(folder, given=version, expected=f"format {FORMAT}")
    if not hmac.compare_digest(signature, _sign(body, key=key)):
        raise _refused(folder, given="another signature", expected="the signature of this installation")
    if hashlib.sha256(state).hexdigest() != wanted:
        raise _refused(folder, given="another SHA-256 of the state", expected=str(wanted))
    with contextlib.suppress(safetensors.SafetensorError, KeyError, ValueError):
        return _parse(state, spec_digest=str(body["spec_digest"]))
    raise _refused(folder, given="arrays that do not fit", expected="those of a checkpoint")


def _parse(state: bytes, *, spec_digest: str) -> Checkpoint:
    # copies: what safetensors gives is read-only memory
    arrays = {name: array.copy() for name, array in safetensors.numpy.load(state).items()}
    counted = {name: arrays.pop(name) for name in [name for name in arrays if name.startswith("ledger.")]}
    return Checkpoint(
        state=arrays,
        ledger=ledgers.from_arrays({name.removeprefix("ledger."): array for name, array in counted.items()}),
        spec_digest=spec_digest,
    )


def _sign(body: dict[str, object], *, key: bytes) -> str:
    return hmac.new(key, json.dumps(body, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(folder: Path, *, given: object, expected: str) -> Tampered:
    return Tampered(
        f"checkpoint {folder.name}",
        given=given,
        expected=expected,
        cure="Resume from another checkpoint, or start the run anew.",
    )
