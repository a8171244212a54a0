"""The dataset of an offline training: transitions as encoded columns, with returns-to-go and the ends that they bootstrap from.

Made from data/training_rows.py by `columns_of`, read by every engine beside it. Pure: never opens a file.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.data.training_rows import TrainingRows
from rlaas_ray.errors import BadObservation, InvalidInput
from rlaas_ray.policies import decoders, spaces
from rlaas_ray.policies.spaces import Space
from rlaas_ray.specs.arrays import F32, F64, I64, Array, Bool

DECODED_DIFFERENCE = 1e-5  # of the action's range: above it, another decoder than ours made the action


_OF_EPISODES = ("ends", "episode_returns")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """n transitions. `complete`: the episode ended there, or `following` is known; others can be imitated, not bootstrapped."""

    observations: F32  # (n, d), encoded
    actions: Array  # (n, a), proposed: int64 indices from 0, or float32 (in [-1, 1] where the space is bounded)
    rewards: F32  # (n,)
    following: F32  # (n, d), the next observation; zeros where it is not known
    terminated: Bool  # (n,)
    complete: Bool  # (n,)
    returns: F32  # (n,), discounted sum of the rewards to the end of what is known of the episode
    tail: I64  # (n,), index into `ends`
    tail_discount: F32  # (n,), gamma^steps to that end; 0 where the episode terminated: nothing follows
    log_probabilities: F32  # (n,), of the behaviour; NaN: unknown
    ends: F32  # (e, d), the observations that the last rows of episodes led to
    episode_returns: F64  # (episodes,), plain sums of rewards, as far as an episode is known
    masks: Bool | None = None  # (n, m), true where an action was allowed

    def __len__(self) -> int:
        return int(self.rewards.shape[0])

    @property
    def chosen(self) -> I64:
        """Actions of a discrete head, as indices (n, 1)."""
        return self.actions.astype(np.int64, copy=False)

    def take(self, rows: I64 | Bool) -> Dataset:
        """The rows named, copied; what is told of episodes is shared."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return Dataset(**{n: v if n in _OF_EPISODES or v is None else v[rows] for n, v in found.items()})


def columns_of(rows: TrainingRows, *, observation_space: Space, action_space: Space, gamma: float) -> Dataset:
    """Encoded, checked columns of the usable rows. Raises InvalidInput where they are not of these spaces."""
    observations = _encoded(rows.observation, encoded=rows.encoded, space=observation_space, name="observation")
    rewarded = np.isfinite(rows.reward)
    rewards = np.where(rewarded, rows.reward, 0.0)
    following, led = _following(rows, observations, space=observation_space)
    complete = rewarded & (rows.terminated | led)
    returns, tail, discount = to_go(rewards, linked=_linked(rows, complete=complete), gamma=gamma)
    last, ends = np.unique(tail, return_inverse=True)
    actions, as_proposed = _actions(rows, space=action_space)
    usable = rows.usable & rewarded
    _refuse(usable, rows=rows, observations=observations, actions=actions)
    with np.errstate(divide="ignore", invalid="ignore"):
        behaviour = np.where(as_proposed, np.log(rows.propensity), np.nan)
    return Dataset(
        observations=observations,
        actions=actions,
        rewards=rewards.astype(np.float32),
        following=following,
        terminated=rows.terminated,
        complete=complete,
        returns=returns.astype(np.float32),
        tail=ends.astype(np.int64),
        tail_discount=np.where(rows.terminated[tail], 0.0, discount).astype(np.float32),
        log_probabilities=behaviour.astype(np.float32),
        ends=following[last],
        episode_returns=np.add.reduceat(rewards, np.flatnonzero(~np.concatenate([[False], rows.follows[:-1]]))),
        masks=_masks(rows, space=observation_space),
    ).take(usable)


def to_go(rewards: F64, *, linked: Bool, gamma: float) -> tuple[F64, I64, F64]:
    """(discounted sum of rewards to the end of each row's chain, index of the row there, gamma^steps after it).

    `linked[i]`: row i + 1 goes on where row i led. G_i = r_i + gamma G_{i+1}; the discount of a chain's last row is gamma.
    """
    ends = np.flatnonzero(~linked)
    rows = np.arange(len(rewards))
    tail = ends[np.searchsorted(ends, rows)]
    returns = rewards.astype(np.float64)
    lengths = np.diff(np.concatenate([[-1], ends]))
    order = np.argsort(-lengths, kind="stable")
    ends, lengths = ends[order], lengths[order]
    for step in range(1, int(lengths.max(initial=0))):  # all chains at once, from their ends
        now = ends[: np.searchsorted(-lengths, -step, side="left")] - step
        returns[now] += gamma * returns[now + 1]
    return returns, tail, np.power(float(gamma), tail - rows + 1)


def proposed_of(action_space: Space, actions: F64) -> Array:
    """What a head proposes for executed actions (n, a): indices from 0; or the entries of a bounded Box in [-1, 1].

    The inverse of policies/decoders.for_action_space, up to its clipping.
    """
    decoder = decoders.for_action_space(action_space)
    match decoder:
        case decoders.Indices():
            return np.rint(actions - decoder.start).astype(np.int64)
        case decoders.Unsquash():
            half = (decoder.high - decoder.low) * 0.5
            return np.asarray((actions - decoder.low) / half - 1.0, dtype=np.float32)
        case _:
            return actions.astype(np.float32)


def _actions(rows: TrainingRows, *, space: Space) -> tuple[Array, Bool]:
    """(proposed actions, whether each is the logged proposal itself: only then its propensity speaks of it)."""
    width = spaces.action_size(space)
    if rows.action.shape[1] != width:
        raise InvalidInput(
            "actions of the dataset",
            given=f"{rows.action.shape[1]} entries",
            expected=f"{width} entries, for {space}",
            cure="Name the env that the data is of.",
        )
    _check_range(rows, space=space)
    with np.errstate(invalid="ignore"):
        executed = proposed_of(space, np.where(np.isfinite(rows.action), rows.action, 0.0))
    if rows.proposed is None:
        return executed, np.ones(len(rows), dtype=np.bool_)
    if rows.proposed.shape != rows.action.shape:
        return executed, np.zeros(len(rows), dtype=np.bool_)
    decoder = decoders.for_action_space(space)
    decoded = decoder.decode(rows.proposed, observations=np.empty((len(rows), 0), dtype=np.float32))
    allowed = DECODED_DIFFERENCE * (decoder.high - decoder.low if isinstance(decoder, decoders.Unsquash) else 1.0)
    same: Bool = np.all(np.abs(decoded - rows.action) <= allowed, axis=1)
    return np.where(same[:, None], rows.proposed, executed).astype(executed.dtype), same


def _check_range(rows: TrainingRows, *, space: Space) -> None:
    values = rows.action[rows.usable]
    fits: Bool
    if isinstance(space, gymnasium.spaces.Box):
        fits = np.all(np.isfinite(values), axis=1)
        if space.is_bounded("both"):
            low, high = space.low.ravel().astype(np.float64), space.high.ravel().astype(np.float64)
            slack = 1e-3 * (high - low)
            fits &= np.all((values >= low - slack) & (values <= high + slack), axis=1)
    else:
        first = decoders.for_action_space(space)
        assert isinstance(first, decoders.Indices)
        sizes = np.asarray(space.n if isinstance(space, gymnasium.spaces.Discrete) else getattr(space, "nvec"))  # noqa: B009
        index = values - first.start
        fits = np.all(np.isfinite(values) & (index == np.rint(index)) & (index >= 0) & (index < sizes.ravel()), axis=1)
    if not fits.all():
        row = int(np.flatnonzero(~fits)[0])
        raise InvalidInput(
            "actions of the dataset",
            given=f"{int((~fits).sum())} of {len(fits)} outside; the first: {values[row].tolist()[:8]}",
            expected=f"actions of {space}, in the env's units",
            cure="Name the env that the data is of, or write its actions in its units.",
        )


def _encoded(values: Any, *, encoded: bool, space: Space, name: str) -> F32:
    width = spaces.encoded_size(space)
    if encoded:
        found = np.asarray(values, dtype=np.float32)
        if found.ndim == 2 and found.shape[1] == width:
            return found
        given = f"encoded rows of shape {found.shape}"
    else:
        try:
            return spaces.encode(space, values)
        except (BadObservation, KeyError, IndexError, TypeError, ValueError) as error:
            given = str(error.given) if isinstance(error, BadObservation) else repr(error)
    raise InvalidInput(
        f"column {name!r} of the dataset",
        given=given,
        expected=f"observations of {space} ({width} encoded entries)",
        cure="Name the env that the data is of.",
    )


def _following(rows: TrainingRows, observations: F32, *, space: Space) -> tuple[F32, Bool]:
    """(next observations, where they are known)."""
    if rows.next_observation is not None:
        found = _encoded(rows.next_observation, encoded=rows.encoded, space=space, name="next_observation")
        return found, np.ones(len(rows), dtype=np.bool_)
    found = np.zeros_like(observations)
    found[:-1][rows.follows[:-1]] = observations[1:][rows.follows[:-1]]
    return found, rows.follows


def _linked(rows: TrainingRows, *, complete: Bool) -> Bool:
    """Whether the return of a row goes through the next one."""
    linked = rows.follows & complete
    linked[:-1] &= complete[1:]
    return linked


def _masks(rows: TrainingRows, *, space: Space) -> Bool | None:
    if rows.encoded:
        return rows.mask
    return spaces.action_mask(space, rows.observation)


def _refuse(usable: Bool, *, rows: TrainingRows, observations: F32, actions: Array) -> None:
    if not usable.any():
        raise InvalidInput(
            "dataset",
            given=f"{len(rows)} rows, {int(np.isfinite(rows.reward).sum())} with a reward, "
            f"{int(rows.usable.sum())} answered by an arm that counts",
            expected="one row or more with observation, action and reward",
            cure="Report rewards; answers of the fallback, holdouts and an e-stop are left out.",
        )
    for name, values in (("observation", observations), ("action", actions)):
        wrong: Bool = np.any(~np.isfinite(values[usable]), axis=1)
        if wrong.any():
            raise InvalidInput(
                f"column {name!r} of the dataset",
                given=f"{int(wrong.sum())} of {len(wrong)} rows with NaN or infinity",
                expected="finite numbers",
                cure="Take those rows out.",
            )
