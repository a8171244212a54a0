"""The encoder: closed forms per space, the same row however a batch is written, and refusals that name the field."""

import json
import math

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces as gs
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaas_ray.errors import BadObservation, InvalidInput, NotBuilt
from rlaas_ray.policies import spaces

BOX = gs.Box(-np.inf, np.inf, (3,), np.float32)
NESTED = gs.Dict(
    {"z": gs.Discrete(3, start=-1), "a": gs.Tuple([BOX, gs.MultiDiscrete([2, 3])]), "m": gs.MultiBinary(2)}
)


def any_space(depth: int = 2) -> st.SearchStrategy[gymnasium.Space]:
    shapes = st.lists(st.integers(1, 3), max_size=2).map(tuple)
    leaves = st.one_of(
        shapes.map(lambda shape: gs.Box(-np.inf, np.inf, shape, np.float32)),
        shapes.map(lambda shape: gs.Box(-2.5, 7.25, shape, np.float64)),
        st.tuples(st.integers(1, 5), st.integers(-3, 3)).map(lambda p: gs.Discrete(p[0], start=p[1])),
        st.lists(st.integers(1, 4), min_size=1, max_size=3).map(gs.MultiDiscrete),
        st.integers(1, 4).map(gs.MultiBinary),
    )
    if depth == 0:
        return leaves
    inner = any_space(depth - 1)
    return st.one_of(
        leaves,
        st.lists(inner, min_size=1, max_size=3).map(gs.Tuple),
        st.dictionaries(st.sampled_from(["a", "b", "c", "observations"]), inner, min_size=1, max_size=3).map(gs.Dict),
    )


def sample(space: gymnasium.Space, seed: int) -> object:
    space.seed(seed)
    return space.sample()


@given(space=any_space(), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_a_row_has_the_size_that_was_promised_and_does_not_depend_on_its_batch(space, seed):
    rows = [sample(space, seed + i) for i in range(3)]
    batch = spaces.encode(space, rows)
    assert batch.dtype == np.float32
    assert batch.shape == (3, spaces.encoded_size(space))
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(spaces.encode_one(space, row), batch[i])


@given(space=any_space(), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_the_columns_that_a_vector_env_gives_encode_as_its_rows_do(space, seed):
    rows = [sample(space, seed + i) for i in range(3)]
    columns = gymnasium.vector.utils.concatenate(space, rows, gymnasium.vector.utils.create_empty_array(space, 3))
    np.testing.assert_array_equal(spaces.encode(space, columns), spaces.encode(space, rows))


@given(space=any_space())
@settings(max_examples=60, deadline=None)
def test_a_space_survives_json(space):
    assert spaces.from_json(json.loads(json.dumps(spaces.to_json(space), allow_nan=False))) == space


def test_dict_keys_are_sorted_and_integers_are_one_hot():
    row = {"z": 0, "a": ([1.5, 2.5, 3.5], [1, 2]), "m": [1, 0]}
    expected = [1.5, 2.5, 3.5, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0]
    np.testing.assert_array_equal(spaces.encode_one(NESTED, row), np.array(expected, np.float32))


def test_a_box_is_read_in_c_order():
    space = gs.Box(-1, 1, (2, 2), np.float64)
    np.testing.assert_array_equal(spaces.encode_one(space, [[1, 2], [3, 4]]), np.array([1, 2, 3, 4], np.float32))


def test_the_flat_box_of_a_vector_env_is_not_copied():
    batch = np.zeros((5, 3), np.float32)
    assert spaces.encode(BOX, batch) is batch


def test_the_action_mask_is_split_out_first():
    space = gs.Dict({"observations": BOX, "action_mask": gs.MultiBinary(2)})
    rows = [{"observations": [1, 2, 3], "action_mask": [1, 0]}, {"observations": [4, 5, 6], "action_mask": [1, 1]}]
    assert spaces.encoded_size(space) == 3
    np.testing.assert_array_equal(spaces.encode(space, rows), [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(spaces.action_mask(space, rows), [[True, False], [True, True]])
    np.testing.assert_array_equal(spaces.encode_one(space, rows[0]), [1, 2, 3])
    assert spaces.action_mask(BOX, [[1, 2, 3]]) is None


@pytest.mark.parametrize(
    ("space", "observation", "pointer", "given_text", "expected"),
    [
        (BOX, [1, 2], "/observation", "(2,)", "(3,)"),
        (BOX, [1, 2, math.nan], "/observation/2", "nan", "finite"),
        (BOX, [1, -math.inf, 2], "/observation/1", "-inf", "finite"),
        (BOX, [1, 1e39, 2], "/observation/1", "1e+39", "float32"),
        (BOX, ["1", "2", "3"], "/observation", "['1', '2', '3']", "(3,)"),
        (BOX, [1, None, 3], "/observation", "None", "(3,)"),
        (BOX, [[1], [2, 3], 4], "/observation", "[1]", "(3,)"),
        (BOX, {"a": 1}, "/observation", "()", "(3,)"),
        (gs.Discrete(3), 3, "/observation", "3", "from 0 to 2"),
        (gs.Discrete(3, start=1), 0, "/observation", "0", "from 1 to 3"),
        (gs.Discrete(3), 1.0, "/observation", "1.0", "integer"),
        (gs.Discrete(3), True, "/observation", "True", "integer"),
        (gs.MultiDiscrete([2, 3]), [1, 3], "/observation/1", "3", "from 0 to 2"),
        (gs.MultiBinary(2), [0, 2], "/observation", "2", "zeros and ones"),
        (NESTED, {"z": 0, "m": [0, 1]}, "/observation/a", "nothing", "this field"),
        (NESTED, {"z": 0, "m": [0, 1], "a": ([1, 2, 3], [0, 0]), "q": 1}, "/observation/q", "q", "only"),
        (NESTED, {"z": 0, "m": [0, 1], "a": ([1, 2, math.nan], [0, 0])}, "/observation/a/0/2", "nan", "finite"),
        (NESTED, {"z": 0, "m": [0, 1], "a": [[1, 2, 3]]}, "/observation/a", "1 parts", "2 parts"),
        (NESTED, [1], "/observation", "[1]", "object"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_field_what_was_given_and_what_is_wanted(
    space, observation, pointer, given_text, expected
):
    with pytest.raises(BadObservation) as caught:
        spaces.encode_one(space, observation)
    assert caught.value.pointer == pointer
    assert given_text in str(caught.value.given)
    assert expected in caught.value.expected
    assert caught.value.cure


@given(
    junk=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("zam"), inner, max_size=4),
        max_leaves=8,
    ),
    space=st.sampled_from([BOX, NESTED, gs.Discrete(2), gs.MultiDiscrete([2, 2]), gs.MultiBinary(3)]),
)
@settings(max_examples=150, deadline=None)
def test_any_json_is_either_encoded_finitely_or_refused_as_a_bad_observation(junk, space):
    try:
        row = spaces.encode_one(space, junk)
    except BadObservation:
        return
    assert row.shape == (spaces.encoded_size(space),)
    assert np.isfinite(row).all()


def test_an_index_outside_its_range_is_refused_in_a_batch_too():
    with pytest.raises(BadObservation, match=r"0\.\.2"):
        spaces.encode(gs.Discrete(3), np.array([0, -1]))


def test_images_and_unknown_spaces_say_that_they_are_not_built():
    for space in (gs.Box(0, 255, (8, 8, 3), np.uint8), gs.Text(5), gs.Sequence(BOX)):
        with pytest.raises(NotBuilt) as caught:
            spaces.encoded_size(space)
        assert caught.value.cure


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {"type": "Graph"},
        {"type": "Discrete", "n": 0, "start": 0},
        {"type": "Discrete", "n": 2},
        {"type": "Discrete", "n": 2, "start": 0, "more": 1},
        {"type": "Box", "low": [0], "high": ["nan"], "shape": [1], "dtype": "float32"},
        {"type": "Box", "low": [0], "high": [1, 2], "shape": [1], "dtype": "float32"},
        {"type": "Box", "low": [0], "high": [1], "shape": [1], "dtype": "object"},
        {"type": "Box", "low": [0], "high": [1], "shape": [100000, 100000], "dtype": "float32"},
        {"type": "MultiDiscrete", "nvec": [], "start": []},
        {"type": "Dict", "spaces": {"a": {"type": "?"}}},
    ],
)
def test_json_of_no_space_is_refused(body):
    with pytest.raises(InvalidInput, match="not a space"):
        spaces.from_json(body)


def test_a_space_nested_without_end_is_refused():
    body: dict = {"type": "Discrete", "n": 2, "start": 0}
    for _ in range(40):
        body = {"type": "Tuple", "spaces": [body]}
    with pytest.raises(InvalidInput):
        spaces.from_json(body)


def test_actions_go_to_the_env_and_to_json_in_the_spaces_shape():
    box = gs.Box(-1, 1, (2, 2), np.float32)
    rows = np.arange(8, dtype=np.float64).reshape(2, 4)
    assert spaces.actions(box, rows).shape == (2, 2, 2)
    assert box.dtype == spaces.actions(box, rows).dtype
    assert spaces.action_to_json(box, rows[0]) == [[0.0, 1.0], [2.0, 3.0]]
    assert spaces.action_to_json(gs.Discrete(5), np.array([3.0])) == 3
    assert spaces.action_to_json(gs.MultiDiscrete([3, 4]), np.array([2.0, 1.0])) == [2, 1]
    assert spaces.actions(gs.Discrete(5), np.array([[3.0], [4.0]])).tolist() == [3, 4]
    assert [spaces.action_size(s) for s in (box, gs.Discrete(5), gs.MultiDiscrete([3, 4]))] == [4, 1, 2]
