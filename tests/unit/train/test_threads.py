"""BLAS threads while running: one inside, as before outside."""

import numpy as np
import pytest

from rlaas_ray.train import threads


def test_the_block_has_one_thread_and_afterwards_it_is_as_before() -> None:
    np.ones((2, 2)) @ np.ones((2, 2))
    before = threads.counts()
    if not before:
        pytest.skip("NumPy has no OpenBLAS here")
    with threads.one():
        assert set(threads.counts()) == {1}
    assert threads.counts() == before
