"""Problem type `policy_search`: the weights of a linear or small tanh policy, judged by the objectives of an environment.

Met by problems.py. All individuals play the same episodes (common random numbers), all at once: one vector environment of
individuals x episodes, one stacked matrix product a layer. `contents` makes a point a Bundle; nothing is written here.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces as gs
from gymnasium.vector import AutoresetMode
from pymoo.core.problem import Problem

from rlaas_ray.envs import catalogue, registry
from rlaas_ray.errors import InvalidInput, WorkFailed
from rlaas_ray.policies import bundle, decoders, heads, network, spaces
from rlaas_ray.specs.arrays import F32, F64

MOST_STEPS = 100_000
_NORMALISED_CLIP = 5.0
_WORLD, _RANDOM = (
    1,
    2,
)  # what is drawn from a problem's seed: episodes, the actions that the normaliser is measured under

Reduce = Literal["mean", "sum"]
Weights = list[tuple[F32, F32]]  # of each layer (n, in, out), (n, 1, out)


class PolicyProblem(Problem):  # type: ignore[misc, no-any-unimported]  # pymoo has no types
    """x (n, d) holds for each layer its matrix (in, out) row by row, then its biases; all within +-`limit`.

    `reduce`: objectives of an episode are means over its steps, in the environment's units, or sums. `steps` cuts an
    episode short. An environment with a training view (RanControl, drones) shares the policy among its units.
    """

    def __init__(
        self,
        *,
        env: str,
        hidden: Sequence[int] = (),
        episodes: int = 4,
        seed: int = 0,
        reduce: Reduce = "mean",
        steps: int | None = None,
        env_config: Mapping[str, Any] | None = None,
        limit: float = 2.0,
    ) -> None:
        _check(hidden=hidden, episodes=episodes, reduce=reduce, limit=limit)
        self.env, self.config, self.reduce = registry.resolve(env), dict(env_config or {}), reduce
        self.episodes, self.steps, self.seed = episodes, steps, seed
        single = registry.make(self.env, config=self.config)
        self.objectives = tuple(tuple(one) for one in single.metadata.get("objectives", ()))
        self.observation_space, self.action_space = single.observation_space, single.action_space
        single.close()  # type: ignore[no-untyped-call]  # Gymnasium leaves it untyped
        if not self.objectives:
            raise InvalidInput(
                f"environment {env!r} names no objectives",
                given="metadata without objectives",
                expected='metadata["objectives"] = [(name, unit, "min" | "max"), ...] and info["objectives"] at each step',
                cure="Add them, or train it by its reward with `rlaas train`.",
            )
        self.sign = np.array([1.0 if way == "min" else -1.0 for _, _, way in self.objectives])
        self.head, self.decoder, self.last = _action(self.action_space)
        self.view = registry.training_view(self.env)
        inputs, outputs = spaces.encoded_size(self.observation_space), self.head.size
        if self.view is not None:
            self.decoder, self.last = self.view.decoder, "linear"
            inputs, outputs = self.view.program.size, outputs // self.view.units
        self.sizes = (inputs, *hidden, outputs)
        self._worlds: registry.VectorEnv | None = None
        self.normaliser: network.Normaliser | None = None
        self.normaliser = self._measured()
        count = sum((a + 1) * b for a, b in itertools.pairwise(self.sizes))
        super().__init__(n_var=count, n_obj=len(self.objectives), xl=-limit, xu=limit)

    def natural(self, x: F64) -> F64:
        """Mean objectives over the episodes, in natural units. x (n, d) -> (n, m)."""
        return self._play(self._weights(x), count=len(x))[0]

    def contents(self, x: F64, *, name: str, created_us: int, spec_digest: str = "") -> bundle.BundleContents:
        """One point (d,) as what `bundle.write` takes: served greedily, with the observations that it visits."""
        layers = tuple(
            network.Layer(
                weight=np.ascontiguousarray(matrix[0].T), bias=bias[0, 0].copy(), activation=self._activation(k)
            )
            for k, (matrix, bias) in enumerate(self._weights(x[None]))
        )
        program = None if self.view is None else self.view.program
        _, visited = self._play(self._weights(x[None]), count=1, keep=bundle.GOLDEN_ROWS)
        while len(visited) < bundle.GOLDEN_ROWS:
            visited = np.concatenate([visited, visited])
        return bundle.BundleContents(
            name=name,
            created_us=created_us,
            env=self.env,
            algorithm="policy_search",
            observation_space=self.observation_space,
            action_space=self.action_space,
            net=network.Network(layers=layers, normaliser=self.normaliser, view=program),
            head=self.head,
            decoder=self.decoder,
            serving="greedy",
            seed=self.seed,
            spec_digest=spec_digest,
            observations=visited,
        )

    def _evaluate(self, x: F64, out: dict[str, Any], *_: object, **__: object) -> None:
        out["F"] = self.natural(np.asarray(x, dtype=np.float64)) * self.sign

    def _weights(self, x: F64) -> Weights:
        found: Weights = []
        at, rows = 0, x.astype(np.float32)
        for inputs, outputs in itertools.pairwise(self.sizes):
            middle, end = at + inputs * outputs, at + (inputs + 1) * outputs
            found.append((rows[:, at:middle].reshape(-1, inputs, outputs), rows[:, None, middle:end]))
            at = end
        return found

    def _activation(self, layer: int) -> network.Activation:
        return "tanh" if layer < len(self.sizes) - 2 else self.last

    def _parameters(self, weights: Weights, encoded: F32) -> F32:
        """Of the head, (n * episodes, k): rows of one individual follow each other, its units likewise."""
        count, rows = len(weights[0][0]), len(encoded)
        seen = encoded if self.view is None else self.view.program.apply(encoded).reshape(-1, self.sizes[0])
        if self.normaliser is not None:
            clip = np.float32(self.normaliser.clip)
            seen = np.clip((seen - self.normaliser.mean) / self.normaliser.std, -clip, clip)
        flow = seen.reshape(count, -1, self.sizes[0])
        for k, (matrix, bias) in enumerate(weights):
            flow = np.matmul(flow, matrix)
            flow += bias
            if self._activation(k) == "tanh":
                np.tanh(flow, out=flow)
        return flow.reshape(rows, -1)

    def _play(self, weights: Weights, *, count: int, keep: int = 0) -> tuple[F64, F32]:
        """Objectives (count, m), and at least `keep` encoded observations where there are so many steps."""
        worlds = self._made(count)
        observed, _ = worlds.reset(seed=self._seeds(count))  # type: ignore[arg-type]  # a seed for each, see _vector
        rows = count * self.episodes
        total, length = np.zeros((rows, len(self.objectives))), np.zeros(rows)
        running, kept = np.ones(rows, dtype=np.bool_), []
        for step in range(self.steps or MOST_STEPS):
            encoded = spaces.encode(self.observation_space, observed)
            if step * rows < keep:
                kept.append(encoded[running])
            params = self._parameters(weights, encoded)
            mask = spaces.action_mask(self.observation_space, observed)
            if mask is not None:  # the last observation of an episode may forbid everything
                params = heads.masked(params, mask | ~mask.any(axis=1, keepdims=True))
            proposed = self.decoder.decode(self.head.mode(params), observations=encoded)
            observed, _, ended, cut, info = worlds.step(spaces.actions(self.action_space, proposed))
            total += np.where(running[:, None], np.asarray(info["objectives"], dtype=np.float64), 0.0)
            length += running
            running &= ~(np.asarray(ended) | np.asarray(cut))
            if not running.any():
                break
        else:
            self._endless()
        mean = total if self.reduce == "sum" else total / length[:, None]
        visited = np.concatenate(kept) if kept else np.empty((0, 0), dtype=np.float32)
        return mean.reshape(count, self.episodes, -1).mean(axis=1), visited

    def _endless(self) -> None:
        if self.steps is None:
            raise WorkFailed(
                f"episodes of {self.env} do not end",
                given=f"{MOST_STEPS:,} steps",
                expected="a terminated or truncated episode",
                cure="Give `steps`, or wrap the environment in a time limit.",
            )

    def _seeds(self, count: int) -> list[int]:
        """The same episodes for every individual."""
        worlds = [
            int(np.random.SeedSequence((self.seed, _WORLD, k)).generate_state(1)[0] >> 1) for k in range(self.episodes)
        ]
        return worlds * count

    def _made(self, count: int) -> registry.VectorEnv:
        rows = count * self.episodes
        if self._worlds is None or self._worlds.num_envs != rows:
            if self._worlds is not None:
                self._worlds.close()
            self._worlds = _vector(self.env, rows=rows, config=self.config)
        return self._worlds

    def _measured(self) -> network.Normaliser:
        """Mean and spread of what one unit observes while actions are drawn at random: frozen, and part of the policy."""
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, _RANDOM)))
        shapes = list(itertools.pairwise(self.sizes))
        drawn = [
            (rng.standard_normal((16, a, b), dtype=np.float32), rng.standard_normal((16, 1, b), dtype=np.float32))
            for a, b in shapes
        ]
        _, visited = self._play(drawn, count=16, keep=4 * bundle.GOLDEN_ROWS)
        seen = visited if self.view is None else self.view.program.apply(visited).reshape(-1, self.sizes[0])
        spread = seen.std(axis=0)
        return network.Normaliser(
            mean=seen.mean(axis=0), std=np.where(spread > 1e-6, spread, np.float32(1)), clip=_NORMALISED_CLIP
        )


def _vector(env: str, *, rows: int, config: Mapping[str, Any]) -> registry.VectorEnv:
    if env in catalogue.ENTRIES:
        return registry.make_vector(env, num_envs=rows, seed=0, config=config)

    def single() -> registry.Env:
        return registry.make(env, config=config)

    # Gymnasium's own vector forms take one seed for all; here each row has its own.
    return gymnasium.vector.SyncVectorEnv([single] * rows, autoreset_mode=AutoresetMode.NEXT_STEP)


def _action(space: spaces.Space) -> tuple[heads.Head, decoders.Decoder, network.Activation]:
    """Head, decoder, activation of the last layer; deterministic. Raises NotBuilt for a space that no policy serves."""
    decoder = decoders.for_action_space(space)
    if not isinstance(space, gs.Box):
        return heads.for_action_space(space), decoder, "linear"
    bounded = isinstance(decoder, decoders.Unsquash)
    return heads.Point(entries=spaces.action_size(space)), decoder, "tanh" if bounded else "linear"


def _check(*, hidden: Sequence[Any], episodes: int, reduce: str, limit: float) -> None:
    if not all(isinstance(size, int) and 1 <= size <= 64 for size in hidden) or len(hidden) > 2:
        raise InvalidInput(
            "hidden of problem policy_search",
            given=list(hidden),
            expected="[] for a linear policy, or one or two layers of 1 to 64",
            cure="Larger networks are trained by gradients: `rlaas train`.",
        )
    if reduce not in {"mean", "sum"}:
        raise InvalidInput("reduce of problem policy_search", given=reduce, expected="mean or sum")
    if not 1 <= episodes <= 1000:
        raise InvalidInput("episodes of problem policy_search", given=episodes, expected="1 to 1000")
    if not 0.0 < limit <= 100.0:
        raise InvalidInput("limit of problem policy_search", given=limit, expected="above 0, at most 100")
