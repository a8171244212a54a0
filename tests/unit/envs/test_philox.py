"""The generator against Random123's known answers, and the keys and counters that make every world its own."""

import numpy as np
import pytest

from rlaas_ray.envs import philox
from rlaas_ray.errors import InvalidInput


def _words(value):
    return np.array([value], dtype=np.uint32)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (0x00000000, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        (0xFFFFFFFF, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    ],
)
def test_known_answers_of_random123(word, expected):
    drawn = philox.philox((_words(word),) * 4, key=(_words(word),) * 2)
    assert drawn[0].tolist() == expected


def test_known_answer_with_digits_of_pi():
    counter = tuple(_words(w) for w in (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344))
    drawn = philox.philox(counter, key=(_words(0xA4093822), _words(0x299F31D0)))
    assert drawn[0].tolist() == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def test_uniforms_are_open_uniform_and_in_float64():
    uniform = philox.uniforms(1, purpose=1, shape=(200_000,))
    assert uniform.dtype == np.float64
    assert uniform.min() > 0.0
    assert uniform.max() < 1.0
    assert uniform.mean() == pytest.approx(0.5, abs=4 * np.sqrt(1 / 12 / 200_000))
    assert philox.u01(np.array([0, 2**32 - 1], dtype=np.uint32)) == pytest.approx([2.0**-33, 1.0 - 2.0**-33], abs=0)


def test_normals_have_unit_variance_and_no_correlation():
    normal = philox.normals(philox.uniforms(2, purpose=1, shape=(100_000, 2)))
    assert normal.mean(axis=0) == pytest.approx([0, 0], abs=4 / np.sqrt(100_000))
    assert np.cov(normal.T) == pytest.approx(np.eye(2), abs=4 * np.sqrt(2 / 100_000))


def test_an_int_seed_numbers_the_environments_and_a_list_seeds_each():
    numbered = philox.streams(5, num_envs=3, first_index=4)
    assert numbered.seed.tolist() == [5, 5, 5]
    assert numbered.index.tolist() == [4, 5, 6]
    listed = philox.streams([7, 8], num_envs=2)
    assert listed.seed.tolist() == [7, 8]
    assert listed.index.tolist() == [0, 0]


@pytest.mark.parametrize("seed", [-1, 2**32, [1], [1, -1]])
def test_seeds_outside_32_bits_or_too_few_are_refused(seed):
    with pytest.raises(InvalidInput, match="seed"):
        philox.streams(seed, num_envs=2)


def test_every_part_of_key_and_counter_changes_the_draw():
    block, purpose = np.zeros(1, np.uint32), np.ones(1, np.uint32)
    base = {"seed": 1, "index": 2, "episode": 3, "t": 4}

    def draw(*, purpose=purpose, **change):
        one = {name: np.array([value], np.uint32) for name, value in {**base, **change}.items()}
        t = one.pop("t")
        return philox.Streams(**one).words(block, t=t, purpose=purpose).tolist()

    drawn = [draw(), *(draw(**{name: 9}) for name in base), draw(purpose=purpose + np.uint32(1))]
    assert len({str(words) for words in drawn}) == len(drawn)
