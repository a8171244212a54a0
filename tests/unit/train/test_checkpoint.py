"""Checkpoints: everything comes back, two are kept, nothing changed or foreign is opened."""

import json
from pathlib import Path

import numpy as np
import pytest

from rlaas_ray import errors
from rlaas_ray.train import checkpoint, columns, ledger
from rlaas_ray.train.checkpoint import Checkpoint

KEY = b"k" * 32


def made(iteration: int) -> Checkpoint:
    rng = np.random.default_rng(iteration)
    book = ledger.new(3)
    book.iteration, book.steps, book.episodes, book.cpu_s = iteration, iteration * 7, 2, 1.25
    book.observations = columns.moments(rng.normal(size=(5, 3)))
    book.returns = columns.moments(rng.normal(size=(4, 1)))
    book.recent.extend([1.5, -2.0])
    book.lengths.extend([3, 4])
    numbers = rng.normal(size=(3, 10)).astype(np.float32)
    state = {"parameters": numbers[0], "first": numbers[1], "steps": np.array([9, 4], dtype=np.int64)}
    return Checkpoint(
        state=state,
        ledger=book,
        spec_digest="abc",
    )


def test_everything_comes_back(tmp_path: Path) -> None:
    before = made(3)
    after = checkpoint.load(checkpoint.save(tmp_path, before, key=KEY), key=KEY)
    assert after.state.keys() == before.state.keys()
    for name, array in before.state.items():
        np.testing.assert_array_equal(after.state[name], array)
        assert after.state[name].dtype == array.dtype
        assert after.state[name].flags.writeable
    for name, array in before.ledger.arrays().items():
        np.testing.assert_array_equal(after.ledger.arrays()[name], array)
    assert after.ledger.episode_return_mean == before.ledger.episode_return_mean == -0.25
    assert after.ledger.recent.maxlen == 100


def test_the_newest_two_are_kept_and_the_newest_is_loaded(tmp_path: Path) -> None:
    for iteration in (8, 9, 10):
        checkpoint.save(tmp_path, made(iteration), key=KEY)
    assert [path.name[-2:] for path in checkpoint.found(tmp_path)] == ["09", "10"]
    assert checkpoint.load(tmp_path, key=KEY).ledger.iteration == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["iteration-000000009", "iteration-000000010"]


def test_a_folder_that_was_cut_off_while_writing_is_not_seen(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, made(1), key=KEY)
    (tmp_path / ".iteration-000000002.77").mkdir()
    (tmp_path / "iteration-000000003").mkdir()
    assert checkpoint.load(tmp_path, key=KEY).ledger.iteration == 1


def test_no_checkpoint_is_said(tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound):
        checkpoint.load(tmp_path, key=KEY)


@pytest.mark.parametrize("fault", ["state", "manifest", "key", "json", "missing"])
def test_what_was_changed_or_signed_elsewhere_is_refused(tmp_path: Path, fault: str) -> None:
    folder = checkpoint.save(tmp_path, made(1), key=KEY)
    state, manifest = folder / "state.safetensors", folder / "manifest.json"
    match fault:
        case "state":
            data = bytearray(state.read_bytes())
            data[-1] ^= 1
            state.write_bytes(bytes(data))
        case "manifest":
            body = json.loads(manifest.read_text())
            manifest.write_text(json.dumps({**body, "steps": 10**6}))
        case "json":
            manifest.write_text("{")
        case "missing":
            state.unlink()
    with pytest.raises(errors.Tampered) as caught:
        checkpoint.load(folder, key=b"x" * 32 if fault == "key" else KEY)
    assert caught.value.cure
