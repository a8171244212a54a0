"""The ring against a deque, the sum tree against a plain running sum, prioritised sampling against its formulas, the files."""

from collections import deque
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaas_ray.errors import InvalidInput
from rlaas_ray.train.replay import ring, stored
from rlaas_ray.train.replay.memory import PRIORITY_FLOOR, Memory
from rlaas_ray.train.replay.sum_tree import TOP, SumTree

RECORD = ring.layout(observations=2, actions=1, discrete=True)


def rows_of(numbers: list[int], *, record: np.dtype = RECORD) -> np.ndarray:
    rows = np.zeros(len(numbers), dtype=record)
    rows["rewards"] = numbers
    rows["observations"] = np.array(numbers, dtype=np.float32)[:, None]
    return rows


def memory(capacity: int = 100, *, alpha: float | None = None) -> Memory:
    return Memory(RECORD, capacity=capacity, max_bytes=1_000_000, alpha=alpha)


@settings(max_examples=50, deadline=None)
@given(capacity=st.integers(1, 12), blocks=st.lists(st.integers(0, 30), max_size=8))
def test_a_ring_holds_the_newest_rows_whatever_the_blocks(capacity: int, blocks: list[int]) -> None:
    found, wanted, number = ring.ring(RECORD, capacity=capacity), deque[int](maxlen=capacity), 0
    for count in blocks:
        numbers = list(range(number, number + count))
        places = found.insert(rows_of(numbers))
        wanted.extend(numbers)
        number += count
        kept = numbers[-capacity:]
        assert found.take(places)["rewards"].tolist() == kept
    assert sorted(found.rows["rewards"][: found.size].tolist()) == sorted(wanted)
    assert found.size == len(wanted)


def test_a_row_keeps_every_column() -> None:
    record = ring.layout(
        observations=3, actions=2, discrete=False, masks=5, extras={"costs": ((2,), np.float32), "age": ((), np.int64)}
    )
    rows = np.zeros(4, dtype=record)
    rng = np.random.default_rng(0)
    for name in record.names or ():
        rows[name] = rng.integers(0, 2, rows[name].shape)
    held = ring.ring(record, capacity=10)
    found = held.take(held.insert(rows))
    for name in record.names or ():
        np.testing.assert_array_equal(found[name], rows[name])
    assert found["observations"].flags.aligned


def test_a_memory_that_is_too_large_is_refused_with_its_bytes() -> None:
    with pytest.raises(InvalidInput) as caught:
        Memory(RECORD, capacity=1_000_000, max_bytes=1_000_000)
    assert f"{1_000_000 * RECORD.itemsize:,} bytes" in str(caught.value)
    assert "buffer_max_bytes" in str(caught.value)
    fits = 1_000_000 // RECORD.itemsize
    assert Memory(RECORD, capacity=fits, max_bytes=1_000_000).bytes <= 1_000_000


@pytest.mark.parametrize("capacity", [1, 31, 32, 33, 1_000, TOP * 16 + 5])
def test_a_sum_tree_finds_what_a_running_sum_finds(capacity: int) -> None:
    rng = np.random.default_rng(capacity)
    tree, plain = SumTree(capacity), np.zeros(capacity)
    for _ in range(5):
        places = rng.choice(capacity, size=min(capacity, 200), replace=False)
        priorities = np.where(rng.random(len(places)) < 0.3, 0.0, rng.integers(1, 9, len(places)))
        tree.set(places, priorities.astype(np.float64))
        plain[places] = priorities
    plain[0] = 3.0
    tree.set(np.array([0]), np.array([3.0]))
    assert tree.total == plain.sum()
    sums = np.concatenate([rng.random(500) * plain.sum(), [0.0, np.nextafter(plain.sum(), 0.0)], plain.cumsum()[:-1]])
    sums = sums[sums < plain.sum()]
    found, priorities = tree.find(sums)
    np.testing.assert_array_equal(found, np.searchsorted(plain.cumsum(), sums, side="right"))
    assert (priorities > 0).all()
    np.testing.assert_array_equal(priorities, plain[found])


def test_priorities_of_all_sizes_never_find_a_leaf_without_one() -> None:
    rng = np.random.default_rng(0)
    tree = SumTree(50_000)
    places = rng.choice(50_000, 3_000, replace=False)
    priorities = 10.0 ** rng.uniform(-12, 12, len(places))
    tree.set(places, priorities)
    found, _ = tree.find(np.nextafter(tree.total, 0.0) * np.linspace(0, 1, 10_000))
    assert (tree.leaves[found] > 0).all()


def test_rows_are_drawn_in_proportion_to_their_priorities_with_the_weights_that_undo_it() -> None:
    held = memory(50, alpha=0.6)
    held.insert(rows_of(list(range(40))))
    errors = np.linspace(0.0, 4.0, 40)
    held.prioritise(np.arange(40), errors)
    priorities = (errors + PRIORITY_FLOOR) ** 0.6
    probabilities = priorities / priorities.sum()
    rng, counts = np.random.default_rng(1), np.zeros(40)
    for _ in range(400):
        sample = held.sample(64, rng=rng, beta=0.4)
        np.add.at(counts, sample.places, 1)
    np.testing.assert_allclose(counts / counts.sum(), probabilities, atol=0.002)
    weights = (40 * probabilities[sample.places]) ** -0.4
    np.testing.assert_allclose(sample.weights, weights / weights.max(), rtol=1e-6)
    assert sample.rows["rewards"].tolist() == sample.places.tolist()


def test_new_rows_have_the_greatest_priority_so_far_and_uniform_sampling_has_no_weights() -> None:
    held = memory(10, alpha=1.0)
    held.insert(rows_of([1, 2]))
    held.prioritise(np.array([0]), np.array([5.0]))
    held.insert(rows_of([3]))
    assert held.tree is not None
    np.testing.assert_allclose(held.tree.leaves[:3], [5.0, 1.0, 5.0], atol=1e-5)
    plain = memory(10)
    plain.insert(rows_of([1, 2, 3]))
    plain.prioritise(np.array([0]), np.array([5.0]))
    sample = plain.sample(3_000, rng=np.random.default_rng(0))
    assert sample.weights is None
    np.testing.assert_allclose(np.bincount(sample.places) / 3_000, 1 / 3, atol=0.03)


@pytest.mark.parametrize("alpha", [None, 0.6])
def test_a_memory_comes_back_from_its_files(tmp_path: Path, alpha: float | None) -> None:
    held = memory(16, alpha=alpha)
    held.insert(rows_of(list(range(21))))
    held.prioritise(np.arange(16), np.linspace(0, 3, 16))
    stored.save(held, tmp_path / "buffer")
    again = memory(16, alpha=alpha)
    assert stored.load(again, tmp_path / "buffer")
    first, second = (m.sample(64, rng=np.random.default_rng(3), beta=0.5) for m in (held, again))
    np.testing.assert_array_equal(first.rows, second.rows)
    if first.weights is not None:
        np.testing.assert_array_equal(first.weights, second.weights)
    assert again.ring.insert(rows_of([99])).tolist() == held.ring.insert(rows_of([99])).tolist()
    assert again.greatest == held.greatest


def test_files_of_another_memory_are_refused_and_none_is_no_error(tmp_path: Path) -> None:
    assert not stored.load(memory(16), tmp_path / "none")
    stored.save(memory(16), tmp_path / "buffer")
    for other in (memory(17), memory(16, alpha=0.5)):
        with pytest.raises(InvalidInput):
            stored.load(other, tmp_path / "buffer")
