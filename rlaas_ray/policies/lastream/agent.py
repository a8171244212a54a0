"""The agent of dataflows: embed the operators, ask for candidate schemes, value each, take one; remember and learn.

Called by users through `rlaas.stream` (live/llm.py hands a generator in), and by train/lastream on batches of an env.
Knows no network and no clock; all chance is its own generator's, torch's is left as it was.

`B` dataflows, `k` schemes of each, `n` operators.
"""

from __future__ import annotations

import copy
import json
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from safetensors import SafetensorError

from rlaas_ray.errors import InvalidInput, NotFound, nearest
from rlaas_ray.policies import archive
from rlaas_ray.policies.lastream import generators, operators, replay
from rlaas_ray.policies.lastream.evaluator import Evaluator, Scale
from rlaas_ray.policies.lastream.gcn import Gcn
from rlaas_ray.policies.lastream.operators import Operators
from rlaas_ray.specs.arrays import F64, I64, Array

MAX_PARALLELISM = 8
CANDIDATES = 10
_GCN: Mapping[str, Any] = {"output_dim": 64, "dropout": 0.1, "directed": False}
_EVALUATOR: Mapping[str, Any] = {
    "max_operators": 10,
    "dropout": 0.2,
    "learning_rate": 1e-3,
    "weight_decay": 1e-5,
    "horizon": "bandit",
    "gamma": 0.9,
    "target_every": 100,
    "candidates": CANDIDATES,
}
_META = "rlaas.stream-agent"


class StreamAgent:
    """`act` recommends a scheme; `store_experience` and `train_evaluator` learn from what it earned.

    `gcn_config`: output_dim, dropout, directed. `action_evaluator_config`: max_operators, dropout, learning_rate, weight_decay,
    `horizon` ("bandit": the reward of the interval; "td": what follows as well, with `gamma` and a target network that is copied
    every `target_every` updates), `candidates` (of the next dataflow, kept for "td"). Raises InvalidInput for anything else.
    """

    def __init__(
        self,
        *,
        max_parallelism: int = MAX_PARALLELISM,
        gcn_config: Mapping[str, Any] | None = None,
        action_evaluator_config: Mapping[str, Any] | None = None,
        experience_buffer_size: int = 3000,
        device: str = "cpu",
        pretrained_model_path: str | Path | None = None,
        generator: generators.Generator | None = None,
        seed: int = 0,
    ) -> None:
        if max_parallelism < 1:
            raise InvalidInput("max_parallelism", given=max_parallelism, expected="1 or more")
        self.max_parallelism = max_parallelism
        self._gcn_config = _settled("gcn_config", gcn_config, known=_GCN)
        self.config = _settled("action_evaluator_config", action_evaluator_config, known=_EVALUATOR)
        if self.config["horizon"] not in {"bandit", "td"}:
            raise InvalidInput("horizon", given=self.config["horizon"], expected="bandit or td")
        self.generator = generator or generators.OfflineGenerator()
        self._rng = np.random.default_rng(seed)
        self._device = torch.device(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.gcn = Gcn(**self._gcn_config).to(self._device)
            self.evaluator = Evaluator(
                embedding=self._gcn_config["output_dim"],
                max_operators=self.config["max_operators"],
                dropout=self.config["dropout"],
            ).to(self._device)
        self._target = (copy.deepcopy(self.gcn).eval(), copy.deepcopy(self.evaluator).eval())
        self._parameters = [*self.gcn.parameters(), *self.evaluator.parameters()]
        self._optimiser = torch.optim.Adam(
            self._parameters, lr=self.config["learning_rate"], weight_decay=self.config["weight_decay"]
        )
        self.scale, self.updates = Scale(), 0
        self.replay = replay.Replay(
            experience_buffer_size, operators=self.config["max_operators"], candidates=self.config["candidates"]
        )
        self._known: tuple[Any, ...] | None = None  # the dataflow that the two below are about
        self._scheme: list[int] | None = None
        self._recent: deque[tuple[tuple[int, ...], float]] = deque(maxlen=generators.RECENT)
        if pretrained_model_path is not None:
            self.load_model(pretrained_model_path)

    def act(
        self,
        *,
        operators_info: Sequence[Any],
        dependencies: Sequence[Sequence[int]],
        num_candidate_schemes: int = CANDIDATES,
        explore: bool = False,
        temperature: float = 1.0,
    ) -> tuple[list[int], dict[str, Any]]:
        """The best of `num_candidate_schemes`, one count for each operator, and how it came about.

        `explore` draws by softmax(values / temperature) over distinct candidates instead; `propensity` is the probability of
        what was taken, given the candidates. Raises BadOperators (a ValueError), and InvalidInput for more operators than
        `max_operators`.
        """
        if temperature <= 0:
            raise InvalidInput("temperature", given=temperature, expected="above 0")
        told = self._told(operators_info, dependencies)
        context = generators.Context(operators=told, recent=tuple(self._recent))
        proposed = self.generator.propose(context, num_candidate_schemes, rng=self._rng)
        schemes = generators.checked(proposed, operators=told, k=num_candidate_schemes, generator=self.generator.name)
        values = self.values(told, schemes[None])[0]
        probabilities = softmax(values, schemes, temperature=temperature)
        taken = best(values, schemes)
        if explore:
            taken = int(self._rng.choice(len(schemes), p=probabilities))
        same = (schemes == schemes[taken]).all(axis=1)
        scheme = [int(count) for count in schemes[taken]]
        self._scheme = scheme
        return scheme, {
            "app_embedding": self.embedding(told)[0],
            "candidate_schemes": schemes.tolist(),
            "predicted_value": float(values[taken] * self.scale.deviation + self.scale.mean),
            "num_operators": told.count,
            "total_parallelism": sum(scheme),
            "values": values * self.scale.deviation + self.scale.mean,
            "probabilities": probabilities,
            "propensity": float(probabilities[same].sum()) if explore else 1.0,
            "generator": self.generator.name,
            "fallback_reason": self.generator.fallback_reason,
        }

    def store_experience(
        self,
        *,
        operators_info: Sequence[Any],
        dependencies: Sequence[Sequence[int]],
        scheme: Sequence[int],
        reward: float,
        next_operators_info: Sequence[Any] | None = None,
        propensity: float = 1.0,
    ) -> None:
        """What a scheme earned.

        `next_operators_info` is the dataflow an interval later: with horizon "td" the value of its best candidate follows the
        reward. Without it nothing does.
        """
        if not np.isfinite(reward):
            raise InvalidInput("reward", given=reward, expected="a finite number")
        before = self._told(operators_info, dependencies)
        chosen = np.asarray(scheme, dtype=np.int64)
        if chosen.shape != (before.count,) or chosen.min() < 1 or chosen.max() > self.max_parallelism:
            raise InvalidInput(
                "scheme", given=list(scheme), expected=f"{before.count} counts from 1 to {self.max_parallelism}"
            )
        self._recent.append((tuple(int(count) for count in chosen), float(reward)))
        after = before
        if next_operators_info is not None:
            after = operators.parse(
                next_operators_info, dependencies, max_parallelism=self.max_parallelism, current=chosen.tolist()
            )
        td = self.config["horizon"] == "td"
        follows = td and next_operators_info is not None
        following = generators.propose_many(after, self.config["candidates"], rng=self._rng)
        self.remember(
            before,
            chosen[None],
            rewards=np.array([reward * (1.0 - self.config["gamma"]) if td else reward]),
            discounts=np.array([self.config["gamma"] if follows else 0.0]),
            after=(after, following),
            propensities=np.array([propensity]),
        )
        self.scale.take(np.array([reward]))

    def train_evaluator(self, batch_size: int = 32, num_epochs: int = 1) -> dict[str, float]:
        """`num_epochs` times as many rows as the replay has, in minibatches; graph network and evaluator together."""
        batches = -(-len(self.replay) // batch_size) * num_epochs
        return self.learn(batch_size=batch_size, updates=max(1, batches))

    def embedding(self, told: Operators) -> Array:
        """(B, output_dim) float32: of the dataflow under the scheme in force."""
        self.gcn.eval()
        with torch.no_grad():
            graph = self._graph(_seen(told), schemes=told.current[:, None, :])
            found: Array = self.gcn(*graph[:2], mask=graph[2]).cpu().numpy()
            return found

    def values(self, told: Operators, schemes: I64) -> F64:
        """(B, k) of schemes (B, k, n), in units of standardised reward; as the agent acts, without dropout."""
        self.gcn.eval()
        self.evaluator.eval()
        with torch.no_grad():
            found: F64 = self._values((self.gcn, self.evaluator), _seen(told), schemes=schemes).cpu().numpy()
            return found.astype(np.float64)

    def remember(
        self,
        before: Operators,
        schemes: I64,
        *,
        rewards: F64,
        discounts: F64,
        after: tuple[Operators, I64],
        propensities: F64,
    ) -> None:
        """Keeps transitions (B, ...).

        `rewards` of the intervals until `after` (with "td" weighted by (1 - gamma) gamma^i), `discounts` of what follows, and the
        candidates (B, k, n) there.
        """
        if before.count > self.config["max_operators"]:
            raise InvalidInput("operators", given=before.count, expected=f"at most {self.config['max_operators']}")
        self.replay.add(
            {
                **_seen(before),
                **{f"next_{name}": value for name, value in _state(after[0]).items()},
                "scheme": schemes.astype(np.int32),
                "next_schemes": after[1].astype(np.int32),
                "reward": rewards,
                "discount": discounts,
                "propensity": propensities,
            }
        )

    def learn(self, *, batch_size: int, updates: int) -> dict[str, float]:
        """Minibatches of the replay; gives the mean loss."""
        losses: list[float] = []
        self.gcn.train()
        self.evaluator.train()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(self._rng.integers(2**63)))
            losses.extend(self._update(self.replay.sample(batch_size, rng=self._rng)) for _ in range(updates))
        return {"loss": float(np.mean(losses))}

    def state(self) -> dict[str, Array]:
        """Everything that it has learned, as arrays by name; the replay apart."""
        found = {name: value.cpu().numpy().copy() for name, value in self._tensors().items()}
        for number, parameter in enumerate(self._parameters):
            for name, value in self._optimiser.state.get(parameter, {}).items():
                found[f"adam.{number}.{name}"] = np.asarray(value.cpu().numpy()).copy()
        found["scale"] = np.array([self.scale.count, self.scale.mean, self.scale.squares])
        found["updates"] = np.array([self.updates], dtype=np.int64)
        return found

    def load_state(self, state: Mapping[str, Array]) -> None:
        """The inverse. Raises InvalidInput, naming the first array that does not fit, before anything is changed."""
        tensors = self._tensors()
        for name, value in tensors.items():
            given = state.get(name)
            if given is None or given.shape != tuple(value.shape):
                raise InvalidInput(
                    f"weights of another agent: {name}",
                    given=None if given is None else given.shape,
                    expected=str(tuple(value.shape)),
                    cure="Make the agent with the configuration that it was saved with.",
                )
        with torch.no_grad():
            for name, value in tensors.items():
                value.copy_(torch.from_numpy(np.array(state[name])))
        for number, parameter in enumerate(self._parameters):
            kept = {name: f"adam.{number}.{name}" for name in ("step", "exp_avg", "exp_avg_sq")}
            if all(name in state for name in kept.values()):
                self._optimiser.state[parameter] = {
                    name: torch.from_numpy(np.array(state[key])).to(self._device) for name, key in kept.items()
                }
        self.scale.count, self.scale.mean, self.scale.squares = (float(part) for part in state["scale"])
        self.updates = int(state["updates"][0])

    def save_model(self, path: str | Path) -> None:
        """Weights, Adam's moments and the scale of rewards as safetensors."""
        told = {"gcn_config": self._gcn_config, "action_evaluator_config": self.config}
        data = safetensors.numpy.save(self.state(), metadata={_META: json.dumps(told, sort_keys=True)})
        archive.write_file(Path(path), data=data)

    def load_model(self, path: str | Path) -> None:
        """The inverse. Raises NotFound, and InvalidInput for a file that is no agent's, or of another configuration."""
        file = Path(path)
        if not file.is_file():
            raise NotFound(f"the model {file}", expected="a file that save_model has written")
        try:
            state = safetensors.numpy.load(file.read_bytes())
        except SafetensorError as error:
            raise InvalidInput(f"the model {file}", given=str(error), expected="safetensors of save_model") from None
        self.load_state(state)

    def _told(self, info: Sequence[Any], dependencies: Sequence[Sequence[int]]) -> Operators:
        """The dataflow as arrays; the scheme in force is the last that was recommended, where the operators do not tell."""
        limit = self.config["max_operators"]
        if len(info) > limit:
            raise InvalidInput(
                "operators_info",
                given=f"{len(info)} operators",
                expected=f"at most {limit}",
                cure='Make the agent with action_evaluator_config={"max_operators": ...}; its weights are new then.',
            )
        now = self._scheme if self._scheme is not None and len(self._scheme) == len(info) else None
        found = operators.parse(info, dependencies, max_parallelism=self.max_parallelism, current=now)
        known = (found.names, found.edges)
        if known != self._known:
            if now is not None and self._known is not None:
                found = operators.parse(info, dependencies, max_parallelism=self.max_parallelism)
            self._known, self._scheme = known, None
            self._recent.clear()
        return found

    def _values(self, networks: tuple[Gcn, Evaluator], seen: replay.Columns, *, schemes: I64) -> torch.Tensor:
        """(B, k): each dataflow is embedded once for each scheme, as it would be under it."""
        gcn, evaluator = networks
        features, adjacency, mask = self._graph(seen, schemes=schemes)
        shares = torch.as_tensor(schemes / seen["limit"][:, None, None], dtype=torch.float32, device=self._device)
        embedding = gcn(features, adjacency, mask=mask).reshape(*schemes.shape[:2], -1)
        found: torch.Tensor = evaluator(embedding, shares)
        return found

    def _graph(self, seen: replay.Columns, *, schemes: I64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Features, adjacency and mask of B * k graphs, the schemes of a dataflow side by side."""
        count = schemes.shape[1]
        would_be = operators.under(schemes, current=seen["current"], demand=seen["demand"], limit=seen["limit"])
        as_is = np.repeat(seen["features"][:, None], count, axis=1)
        features = np.concatenate([as_is, would_be], axis=3).astype(np.float32)
        graphs = (features, *(np.repeat(seen[name][:, None], count, axis=1) for name in ("adjacency", "mask")))
        flat = [torch.from_numpy(part.reshape(-1, *part.shape[2:])).to(self._device) for part in graphs]
        return flat[0], flat[1], flat[2]

    def _update(self, rows: replay.Columns) -> float:
        count = int(rows["mask"].sum(axis=1).max())
        seen = {name: rows[name][:, :count] for name in ("features", "current", "demand", "mask")}
        seen |= {"adjacency": rows["adjacency"][:, :count, :count], "limit": rows["limit"]}
        value = self._values((self.gcn, self.evaluator), seen, schemes=rows["scheme"][:, None, :count])[:, 0]
        discount = rows["discount"]
        wanted = (rows["reward"] - self.scale.mean * (1.0 - discount)) / self.scale.deviation
        if self.config["horizon"] == "td":
            after = seen | {name: rows[f"next_{name}"][:, :count] for name in ("features", "current", "demand")}
            with torch.no_grad():
                following = self._values(self._target, after, schemes=rows["next_schemes"][:, :, :count])
            wanted = wanted + discount * following.amax(dim=1).cpu().numpy()
        target = torch.as_tensor(wanted, dtype=torch.float32, device=self._device)
        loss = torch.nn.functional.huber_loss(value, target)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._optimiser.step()
        self.updates += 1
        if self.updates % self.config["target_every"] == 0:
            for own, copied in zip((self.gcn, self.evaluator), self._target, strict=True):
                copied.load_state_dict(own.state_dict())
        return float(loss.detach())

    def _tensors(self) -> dict[str, torch.Tensor]:
        parts = {"gcn": self.gcn, "evaluator": self.evaluator}
        parts |= {"target.gcn": self._target[0], "target.evaluator": self._target[1]}
        return {
            f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()
        }


def _state(told: Operators) -> dict[str, replay.Column]:
    return {"features": told.features, "current": told.current.astype(np.int32), "demand": np.nan_to_num(told.demand)}


def _seen(told: Operators) -> dict[str, replay.Column]:
    """What the networks are shown of dataflows, by the names of the replay's columns."""
    batch = len(told.current)
    return {
        **_state(told),
        "adjacency": np.repeat(told.adjacency()[None], batch, axis=0),
        "mask": np.ones((batch, told.count), dtype=np.float32),
        "limit": np.full(batch, told.max_parallelism, dtype=np.int32),
    }


def softmax(values: F64, schemes: I64, *, temperature: float) -> F64:
    """(k,) probabilities over distinct schemes; rows of the same scheme share its probability."""
    _, first, inverse, copies = np.unique(schemes, axis=0, return_index=True, return_inverse=True, return_counts=True)
    logits = values[first] / temperature
    weights = np.exp(logits - logits.max())
    found: F64 = (weights / weights.sum() / copies)[inverse]
    return found


def best(values: F64, schemes: I64) -> int:
    """The row with the highest value; among equals the fewest instances in all, then the lexicographically first."""
    keys = [*reversed(schemes.T), schemes.sum(axis=1), -values]
    return int(np.lexsort(keys)[0])


def _settled(name: str, given: Mapping[str, Any] | None, *, known: Mapping[str, Any]) -> dict[str, Any]:
    for key in given or {}:
        if key not in known:
            raise InvalidInput(f"{name}: {key}", given=key, expected=", ".join(known), cure=nearest(key, list(known)))
    return {**known, **(given or {})}
