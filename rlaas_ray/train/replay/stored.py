"""A replay memory as files: memory-mapped .npy columns and a JSON head, beside a checkpoint but not in it.

Called by the algorithms' `save_buffer` and `load_buffer`, every `buffer_checkpoint_every` checkpoints. A memory that is not
there is refilled by the resumed run; a half-written one is never read: its head comes last. No pickle.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.train.replay.memory import Memory

FORMAT = 1
_HEAD = "memory.json"
_ROWS, _LEAVES = "rows.npy", "priorities.npy"


def save(memory: Memory, directory: Path) -> None:
    """Replace what `directory` holds by the memory's filled rows."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    size = memory.ring.size
    _write(directory / _ROWS, memory.ring.rows[:size])
    if memory.tree is not None:
        _write(directory / _LEAVES, memory.tree.leaves[:size])
    head = {
        "format": FORMAT,
        "capacity": memory.ring.capacity,
        "cursor": memory.ring.cursor,
        "greatest": memory.greatest,
        "size": size,
    }
    (directory / _HEAD).write_text(json.dumps(head, indent=2))


def load(memory: Memory, directory: Path) -> bool:
    """Fill `memory` from `directory`; False when there is none. Raises InvalidInput for a memory of another shape."""
    if not (directory / _HEAD).is_file():
        return False
    head = json.loads((directory / _HEAD).read_bytes())
    rows = np.load(directory / _ROWS, mmap_mode="r", allow_pickle=False)
    given = (head["format"], head["capacity"], rows.dtype, (directory / _LEAVES).is_file())
    wanted = (FORMAT, memory.ring.capacity, memory.ring.rows.dtype, memory.tree is not None)
    if given != wanted or len(rows) != head["size"]:
        raise InvalidInput(
            "replay memory of a checkpoint",
            given=f"format, capacity, columns, priorities: {given}",
            expected=f"{wanted}",
            cure="Resume with the spec that wrote it, or remove its folder: the run then refills its memory.",
        )
    memory.ring.rows[: len(rows)] = rows
    memory.ring.size, memory.ring.cursor = len(rows), int(head["cursor"])
    if memory.tree is not None:
        leaves = np.load(directory / _LEAVES, mmap_mode="r", allow_pickle=False)
        memory.tree.set(np.arange(len(leaves)), np.asarray(leaves))
    memory.greatest = float(head["greatest"])
    return True


def _write(path: Path, array: np.ndarray) -> None:
    target = np.lib.format.open_memmap(path, mode="w+", dtype=array.dtype, shape=array.shape)
    target[:] = array
    target.flush()
