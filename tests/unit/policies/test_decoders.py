"""Decoders: closed forms; refusal of arrays that do not fit."""

import numpy as np
import pytest
from gymnasium import spaces as gs
from hypothesis import given
from hypothesis import strategies as st

from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import decoders

NOTHING = np.zeros((1, 0), np.float32)


def test_an_index_gets_its_spaces_start():
    decoder = decoders.for_action_space(gs.Discrete(3, start=5))
    assert decoder.decode(np.array([[2.0]]), observations=NOTHING).tolist() == [[7.0]]
    several = decoders.for_action_space(gs.MultiDiscrete([3, 3], start=[1, -1]))
    assert several.decode(np.array([[0.0, 2.0]]), observations=NOTHING).tolist() == [[1.0, 1.0]]


def test_a_bounded_box_is_unsquashed_and_clipped():
    decoder = decoders.for_action_space(gs.Box(np.array([0, -2], np.float32), np.array([10, 2], np.float32)))
    proposed = np.array([[-1.0, 0.0], [1.0, 0.5], [-3.0, 3.0]])
    assert decoder.decode(proposed, observations=NOTHING).tolist() == [[0.0, 0.0], [10.0, 1.0], [0.0, 2.0]]


def test_an_unbounded_box_is_taken_as_it_is_and_a_half_bounded_one_clipped():
    free = decoders.for_action_space(gs.Box(-np.inf, np.inf, (1,)))
    half = decoders.for_action_space(gs.Box(0, np.inf, (1,)))
    assert free.decode(np.array([[7.0]]), observations=NOTHING).tolist() == [[7.0]]
    assert half.decode(np.array([[-7.0]]), observations=NOTHING).tolist() == [[0.0]]


def test_a_built_in_policy_speaks_the_envs_units():
    decoder = decoders.direct(gs.Box(0, 10, (1,)))
    assert decoder.decode(np.array([[4.0], [11.0]]), observations=NOTHING).tolist() == [[4.0], [10.0]]


def targets(**changes: object) -> decoders.TargetDelta:
    """Two entries: power towards 46 + 8u in [30, 46] dBm from 38 + 8x, in steps of 4; tilt towards 6 + 7.5u."""
    arrays = {
        "gain": [0.25, 1.0],
        "base": [46.0, 6.0],
        "scale": [8.0, 7.5],
        "low": [30.0, 0.0],
        "high": [46.0, 15.0],
        "obs_offset": [38.0, 7.5],
        "obs_scale": [8.0, 7.5],
    }
    made = {name: np.array(values) for name, values in arrays.items()}
    return decoders.TargetDelta(**{**made, "obs_index": np.array([2, 0]), **changes})


def test_a_target_becomes_a_clipped_step_from_what_is_observed():
    observations = np.array([[0.0, 9.0, 1.0], [-0.2, 9.0, -1.0]], np.float32)
    # Row 0: power is 46, target clip(46 + 8) = 46: stay. Tilt is 7.5, target 6 + 7.5 * 0.2 = 7.5: stay.
    # Row 1: power is 30, target 34: (34 - 30) / 4 = 1. Tilt is 6, target 6.3: 0.3.
    proposed = np.array([[1.0, 0.2], [-1.5, 0.04]])
    given = targets().decode(proposed, observations=observations)
    np.testing.assert_allclose(given, [[0.0, 0.0], [1.0, 0.3]], atol=1e-6)
    far = targets().decode(np.array([[-2.0, 2.0]]), observations=observations[:1])
    assert far.tolist() == [[-1.0, 1.0]]


def keeper(**changes: object) -> decoders.KeepOut:
    """A velocity in the plane, 10 m/s a unit, an acceleration of its difference; a zone is seen within 100 m, margin 2 m.

    Walls are at -1 and 1 of coordinates of 50 m a unit, the fourth and fifth observed number.
    """
    each = {"margin": 2.0, "brake": 4.0, "leave": 1.0, "speed": 10.0}
    zones = {"entries": np.array([[0, 1]]), "seen": np.array([[0, 1, 2]]), "span": np.array([100.0])}
    zones |= {name: np.array([value]) for name, value in each.items()}
    walls = {"seen": np.array([3, 4]), "low": -np.ones(2), "high": np.ones(2), "span": np.full(2, 50.0)}
    walls |= {name: np.full(2, value) for name, value in each.items()}
    flat = {name: np.ones(2) for name in ("gain", "scale", "high")}
    still = {name: np.zeros(2) for name in ("base", "obs_offset", "obs_scale")}
    target = decoders.TargetDelta(**flat, **still, low=-np.ones(2), obs_index=np.array([0, 1]))
    return decoders.KeepOut(
        target=target,
        zones=(decoders.Zones(**{n: changes.get(n, array) for n, array in zones.items()}),),
        walls=decoders.Walls(**{n: changes.get(f"wall_{n}", array) for n, array in walls.items()}),
    )


def test_a_velocity_turns_along_a_zone_that_it_cannot_brake_in_front_of():
    # The edge is 10 m to the east: 8 m of room, sqrt(2 * 4 * 8) = 8 m/s of the 10 m/s that are proposed; all else goes north.
    # Then: slow enough; away from it; the zone out of sight; 1 m inside, 3 m within the margin: out at 3 m/s.
    seen = np.array([[0.1, 0, 0.1], [0.1, 0, 0.1], [0.1, 0, 0.1], [1, 0, 1], [-0.01, 0, -0.01]], np.float32)
    seen = np.pad(seen, ((0, 0), (0, 2)))
    proposed = np.array([[1.0, 0.5], [0.7, 0.7], [-1.0, 0.2], [1.0, 1.0], [0.5, 0.5]])
    wanted = [[0.8, np.sqrt(0.61)], [0.7, 0.7], [-1.0, 0.2], [1.0, 1.0], [-0.3, np.sqrt(0.41)]]
    np.testing.assert_allclose(keeper().decode(proposed, observations=seen), wanted, atol=1e-6)


def test_a_velocity_towards_a_wall_is_what_can_be_braked():
    seen = np.ones((4, 5), np.float32)  # no zone in sight
    seen[:, 3], seen[:, 4] = (
        [0.92, -0.92, 0.98, 0.0],
        0.0,
    )  # 4, 4, 1, 50 m from a wall: 2 m of room, 2 m, 1 m too close, much
    wanted = [[0.4, 0.0], [-0.4, 0.0], [-0.1, 0.0], [1.0, 0.0]]
    proposed = np.array([[1.0, 0.0], [-1.0, 0.0], [0.5, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(keeper().decode(proposed, observations=seen), wanted, atol=1e-6)


@given(
    proposed=st.tuples(*[st.floats(-3, 3)] * 2),
    way=st.tuples(st.floats(0, 6.3), st.floats(-1.2, 1.2)),
)
def test_what_is_kept_out_stays_finite_and_within_bounds(proposed, way):
    angle, distance = way
    seen = np.array([[distance * np.cos(angle), distance * np.sin(angle), distance, angle - 3, distance]], np.float32)
    seen = seen.clip(-1, 1)
    made = keeper().decode(np.array([proposed]), observations=seen)
    assert (np.abs(made) <= 1).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"entries": np.array([[0, 0]])},
        {"entries": np.array([[0, 2]])},
        {"seen": np.array([[0, 1]])},
        {"speed": np.ones(2)},
        {"wall_seen": np.array([3, -4])},
        {"wall_low": np.ones(2, np.float32)},
    ],
)
def test_what_keeps_out_must_fit(changes):
    with pytest.raises(InvalidInput, match=r"zones|walls"):
        keeper(**changes)


def test_a_decoder_survives_its_manifest():
    box = gs.Box(-1, 1, (2,))
    for decoder, space in [
        (targets(), box),
        (keeper(), box),
        (decoders.for_action_space(box), box),
        (decoders.direct(box), box),
        (decoders.for_action_space(gs.Discrete(2)), gs.Discrete(2)),
    ]:
        again = decoders.from_json(decoder.to_json(), space=space, tensors=decoder.tensors())
        assert type(again) is type(decoder)
        observations = np.ones((4, 5), np.float32)
        proposed = np.linspace(-1, 1, 4)[:, None].repeat(1 if isinstance(space, gs.Discrete) else 2, axis=1)
        np.testing.assert_array_equal(
            again.decode(proposed, observations=observations), decoder.decode(proposed, observations=observations)
        )


@pytest.mark.parametrize(
    ("body", "space"),
    [
        ({"type": "magic"}, gs.Box(-1, 1, (2,))),
        ({"type": "unsquash"}, gs.Discrete(2)),
        ({"type": "indices"}, gs.Box(-1, 1, (2,))),
        ({"type": "unsquash"}, gs.Box(-np.inf, 1, (2,))),
        ({"type": "target_delta"}, gs.Box(-1, 1, (2,))),
        ({"type": "keep_out"}, gs.Box(-1, 1, (2,))),
        ({"type": "clip", "low": 3}, gs.Box(-1, 1, (2,))),
    ],
)
def test_a_decoder_that_its_action_space_does_not_allow_is_refused(body, space):
    with pytest.raises(InvalidInput):
        decoders.from_json(body, space=space, tensors={})


@pytest.mark.parametrize(
    "changes",
    [{"gain": np.ones(3)}, {"base": np.ones(2, np.float32)}, {"obs_index": np.array([-1, 0])}],
)
def test_target_arrays_that_do_not_fit_are_refused(changes):
    with pytest.raises(InvalidInput, match="target decoder"):
        targets(**changes)
