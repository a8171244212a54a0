"""The network of a policy with a memory in torch: whole sequences at once, with gradients through time.

Bound to flat memory by engine.py; what engines compute step by step (policies/engines) is the same function. LSTM and GRU run in
torch's own kernels, which know no episodes: sequences are split where one starts, and every piece becomes a row of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import linear

from rlaas_ray.policies.memory import HIDDEN
from rlaas_ray.specs.arrays import I64, Bool
from rlaas_ray.train.memory import network
from rlaas_ray.train.memory.network import Shape

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "silu": torch.nn.functional.silu,
    "linear": lambda values: values,
}


class TorchNetwork(torch.nn.Module):
    """Both towers; parameters are named as in network.parameters."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        for name, dimensions in network.parameters(shape):
            _put(self, name=name, parameter=torch.nn.Parameter(torch.zeros(dimensions)))

    def distribution(self, observations: torch.Tensor, *, state: torch.Tensor, starts: Bool) -> torch.Tensor:
        """(L, n, d), states (n, s) before them and starts (L, n) -> head parameters (L, n, k)."""
        outputs = self._tower("actor", observations, state=state, starts=starts)
        if not self.shape.free:
            return outputs
        log_std = self.get_parameter("log_std")
        return torch.cat([outputs, log_std.expand_as(outputs)], dim=-1)

    def values(self, observations: torch.Tensor, *, state: torch.Tensor, starts: Bool) -> torch.Tensor:
        """(L, n, d), states (n, s) and starts (L, n) -> (L, n)."""
        return self._tower("critic", observations, state=state, starts=starts).squeeze(-1)

    def _tower(self, tower: str, observations: torch.Tensor, *, state: torch.Tensor, starts: Bool) -> torch.Tensor:
        if self.shape.kind == "attention":
            remembered = self._attended(tower, observations, window=state, starts=starts)
        else:
            remembered = self._recurred(tower, observations, state=state, starts=starts)
        return linear(remembered, self._of(tower, "output.weight"), self._of(tower, "output.bias"))

    def _of(self, tower: str, name: str) -> torch.Tensor:
        return self.get_parameter(f"{tower}.{name}")

    def _encoded(self, tower: str, inputs: torch.Tensor) -> torch.Tensor:
        for layer in range(len(self.shape.hidden)):
            weight, bias = self._of(tower, f"{layer}.weight"), self._of(tower, f"{layer}.bias")
            inputs = _ACTIVATIONS[self.shape.activation](linear(inputs, weight, bias))
        return inputs

    def _recurred(self, tower: str, observations: torch.Tensor, *, state: torch.Tensor, starts: Bool) -> torch.Tensor:
        encoded = self._encoded(tower, observations)
        weights = [self._of(tower, f"memory.{name}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        pieces = _pieces(starts)
        begin = torch.where(torch.from_numpy(pieces.goes_on)[:, None], state[pieces.row], 0.0)
        given = encoded if pieces.whole else encoded[torch.from_numpy(pieces.source), torch.from_numpy(pieces.row)]
        outputs = self._run(given, begin=begin, weights=weights)
        return outputs if pieces.whole else outputs[torch.from_numpy(pieces.step), torch.from_numpy(pieces.piece)]

    def _run(self, given: torch.Tensor, *, begin: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
        """(S, p, i) from states (p, s) -> (S, p, h), by torch's kernels: one layer, one direction, no dropout."""
        settled = (True, 1, 0.0, True, False, False)  # biases, layers, dropout, training, bidirectional, batch first
        begin = begin[None].contiguous()
        if self.shape.kind == "gru":
            return torch.gru(given, begin, weights, *settled)[0]
        h, c = (half.contiguous() for half in begin.chunk(2, dim=-1))
        return torch.lstm(given, [h, c], weights, *settled)[0]

    def _attended(self, tower: str, observations: torch.Tensor, *, window: torch.Tensor, starts: Bool) -> torch.Tensor:
        """One head over a band: step t sees itself and the w - 1 steps before it, as far back as its episode goes."""
        steps, (length, rows) = self.shape.steps, observations.shape[:2]
        places = window.reshape(rows, steps - 1, -1).transpose(0, 1)
        x = self._encoded(tower, torch.cat([places[:, :, 1:], observations])).transpose(0, 1)  # (n, w - 1 + L, i)
        ages, seen = _band(starts, taken=places[:, :, 0].detach().numpy() > 0, steps=steps)
        position = self._of(tower, "memory.position")
        newest = x[:, steps - 1 :]
        query = linear(
            newest + position[0], self._of(tower, "memory.query.weight"), self._of(tower, "memory.query.bias")
        )
        query = query @ self._of(tower, "memory.key.weight")  # q . (K x) = (K' q) . x
        index = ages.expand(rows, -1, -1)
        scores = query @ x.transpose(1, 2) + (query @ position.T).gather(2, index)
        weights = torch.softmax(scores * self.shape.size**-0.5 + (~seen) * HIDDEN, dim=2)
        by_age = torch.zeros(rows, length, steps).scatter_add(2, index, weights)
        context = linear(weights @ x + by_age @ position, self._of(tower, "memory.value.weight"))
        both = torch.cat([newest, context], dim=2)
        outputs = linear(both, self._of(tower, "memory.output.weight"), self._of(tower, "memory.output.bias"))
        return torch.tanh(outputs).transpose(0, 1)


class _Pieces:
    """Sequences (L, n) split where an episode starts, into p pieces of at most S steps."""

    def __init__(self, starts: Bool) -> None:
        length, rows = starts.shape
        begins = starts.copy()
        begins[0] = True
        row, start = np.nonzero(begins.T)  # by row, then by time
        number = np.cumsum(begins.T.ravel()).reshape(rows, length).T - 1
        self.whole = len(row) == rows
        self.row: I64 = row
        self.goes_on: Bool = ~starts[
            start, row
        ]  # only a sequence's first piece may: what an episode starts, starts anew
        self.piece: I64 = number  # (L, n): which piece a step is in
        self.step: I64 = np.arange(length)[:, None] - start[number]  # (L, n): and where
        longest = int(self.step.max()) + 1
        self.source: I64 = np.minimum(start[None] + np.arange(longest)[:, None], length - 1)  # (S, p), in time


def _pieces(starts: Bool) -> _Pieces:
    return _Pieces(starts)


def _band(starts: Bool, *, taken: Bool, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """How old each key is for each step (L, w - 1 + L), and whether it is seen (n, L, w - 1 + L)."""
    length = len(starts)
    age = np.arange(length)[:, None] + steps - 1 - np.arange(length + steps - 1)[None]
    episode = np.cumsum(starts, axis=0).T  # (n, L); places of the window are before the first start
    of_key = np.concatenate([np.zeros_like(taken.T, dtype=episode.dtype), episode], axis=1)
    held = np.concatenate([taken.T, np.ones_like(episode, dtype=np.bool_)], axis=1)
    seen = ((age >= 0) & (age < steps))[None] & (episode[:, :, None] == of_key[:, None]) & held[:, None]
    return torch.from_numpy(age.clip(0, steps - 1)), torch.from_numpy(seen)


def _put(module: torch.nn.Module, *, name: str, parameter: torch.nn.Parameter) -> None:
    """A parameter under a dotted name, through modules made on the way."""
    *path, last = name.split(".")
    for part in path:
        if not hasattr(module, part):
            module.add_module(part, torch.nn.Module())
        module = module.get_submodule(part)
    module.register_parameter(last, parameter)
