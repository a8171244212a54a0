"""What an algorithm's `policy()` gives as a network of the product; and its actions as evaluation asks for them.

Used by looped.py, driven.py and check.py. A torch module is read layer by layer, never stored as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import gymnasium
import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import decoders, heads, network, spaces
from rlaas_ray.policies.loaded import Drawn
from rlaas_ray.specs.arrays import F32, Array, Bool
from rlaas_ray.train import columns
from rlaas_ray.train.seam import Trained
from rlaas_ray.train.user import calls
from rlaas_ray.train.user.protocol import ActionOut, Exported, UserAlgorithm
from rlaas_ray.train.worlds import Worlds

CURE = (
    "Give the algorithm a method policy() that returns Exported(layers=torch.nn.Sequential of Linear and activations, "
    "head='categorical'): docs/own-algorithm.md shows it."
)
_TORCH = {"Tanh": "tanh", "ReLU": "relu", "SiLU": "silu", "ELU": "elu", "Identity": "linear"}


def missing(target: str) -> str:
    """Why there is no bundle, and how to get one."""
    return f"{target} offers no policy() that a bundle can hold. {CURE}"


def offered(algorithm: Any, *, worlds: Worlds, target: str) -> Mapping[str, Trained]:
    """What `policy()` gives, under the name ""; nothing where there is no such method, or it gives None."""
    if not callable(getattr(algorithm, "policy", None)):
        return {}
    with calls.theirs(target, "policy"):
        given = algorithm.policy()
    if given is None:
        return {}
    if not isinstance(given, Exported):
        raise InvalidInput(
            f"policy() of {target}", given=type(given).__name__, expected="an Exported, or None", cure=CURE
        )
    return {"": trained(given, worlds=worlds, target=target)}


def trained(given: Exported, *, worlds: Worlds, target: str) -> Trained:
    """The policy as export.py writes it. Raises InvalidInput where its parts do not fit the spaces."""
    view = worlds.view()
    flat = worlds.flat_action_space
    program = network.Network(
        layers=tuple(_layers(given.layers, target=target)),
        normaliser=_normaliser(given, target=target),
        log_std=None if given.log_std is None else np.asarray(given.log_std, dtype=np.float32).copy(),
        view=None if view is None else view.program,
        parts=2 if given.head == "gaussian" else 1,
    )
    wanted = spaces.encoded_size(worlds.observation_space)
    if program.unit_inputs != wanted:
        raise InvalidInput(
            f"policy() of {target}",
            given=f"a first layer that takes {program.unit_inputs} numbers",
            expected=f"{wanted}, an encoded observation of {worlds.env}",
            cure="Return the layers that choose_action computes.",
        )
    head = _head(given, space=flat, target=target)
    if program.outputs != head.size:
        raise InvalidInput(
            f"policy() of {target}",
            given=f"{program.outputs} outputs",
            expected=f"{head.size} for a {given.head} head of {flat}",
            cure="The last layer gives the head's parameters.",
        )
    decoder = decoders.for_action_space(flat) if view is None else view.decoder
    return Trained(network=program, head=head, decoder=decoder, serving=given.serving)


class Batched:
    """A user's algorithm as evaluation asks it: raw batches in, executed actions out."""

    def __init__(self, algorithm: UserAlgorithm, worlds: Worlds, *, explore: bool, target: str) -> None:
        self._algorithm = algorithm
        self._worlds = worlds
        self._explore = explore
        self._target = target

    @property
    def action_space(self) -> spaces.Space:
        """Of one env."""
        return self._worlds.action_space

    def encode(self, observations: Any) -> F32:
        """Raw batch -> (n, d)."""
        return self._worlds.encode(observations)

    def action_mask(self, observations: Any) -> Bool | None:
        """Masks (n, m) of a raw batch."""
        return self._worlds.masks(observations)

    def decide(
        self, encoded: F32, *, rng: np.random.Generator, mask: Bool | None = None, state: F32 | None = None
    ) -> Drawn:
        """One decision for each row; `rng` is not the algorithm's."""
        _, proposed = chosen(
            self._algorithm, encoded, explore=self._explore, mask=mask, worlds=self._worlds, target=self._target
        )
        wide = proposed.astype(np.float64)
        action = decoders.for_action_space(self.action_space).decode(wide, observations=encoded)
        return Drawn(action_proposed=wide, action=action, propensity=np.ones(len(wide)), probabilities=None)


def chosen(
    algorithm: UserAlgorithm, observations: F32, *, explore: bool, mask: Bool | None, worlds: Worlds, target: str
) -> tuple[ActionOut, Array]:
    """What choose_action gives, and its actions as (n, a), checked."""
    with calls.theirs(target, "choose_action"):
        # Masks are handed over where the env has them: an algorithm without masks needs no such argument.
        more = {} if mask is None else {"mask": mask}
        out = algorithm.choose_action(observations, explore=explore, **more)
    if not isinstance(out, ActionOut):
        raise InvalidInput(
            f"choose_action of {target}",
            given=type(out).__name__,
            expected="an ActionOut",
            cure="from rlaas_ray.train.user.protocol import ActionOut, and return ActionOut(action=...).",
        )
    entries = spaces.action_size(worlds.action_space)
    return out, calls.actions(out.action, rows=len(observations), entries=entries, target=target)


def readable(module: Any) -> bool:
    """Whether a torch module is a Sequential that `trained` can read."""
    if type(module).__name__ != "Sequential":
        return False
    names = [type(part).__name__ for part in module]
    fits = [name == "Linear" or (name in _TORCH and before == "Linear") for before, name in pairwise(["", *names])]
    return bool(fits) and all(fits)


def _layers(given: Any, *, target: str) -> Iterator[network.Layer]:
    parts = list(given)
    if parts and all(isinstance(part, Sequence) and len(part) == 3 for part in parts):
        for weight, bias, activation in parts:
            yield network.Layer(
                weight=np.array(weight, dtype=np.float32),
                bias=np.array(bias, dtype=np.float32),
                activation=_activation(activation, target=target),
            )
        return
    names = [type(part).__name__ for part in parts]
    for i, (part, name) in enumerate(zip(parts, names, strict=True)):
        if name in _TORCH and i > 0 and names[i - 1] == "Linear":
            continue  # taken with the Linear before it
        if name != "Linear":
            raise InvalidInput(
                f"layers of policy() of {target}",
                given=name if i == 0 or name not in _TORCH else f"{name} after {names[i - 1]}",
                expected=f"Linear, each followed by one of {', '.join(_TORCH)} or nothing",
                cure="Other modules cannot be served yet; put such computations into the env, or train with dqn or ppo.",
            )
        following = names[i + 1] if i + 1 < len(names) else "Linear"
        weight = part.weight.detach().cpu().numpy().astype(np.float32)
        bias = np.zeros(len(weight), np.float32) if part.bias is None else part.bias.detach().cpu().numpy()
        yield network.Layer(
            weight=weight.copy(),
            bias=bias.astype(np.float32).copy(),
            activation=cast("network.Activation", _TORCH.get(following, "linear")),
        )


def _activation(name: str, *, target: str) -> network.Activation:
    if name not in network.ACTIVATIONS:
        raise InvalidInput(
            f"activation of policy() of {target}",
            given=name,
            expected=", ".join(network.ACTIVATIONS),
            cure="Name one of them.",
        )
    return cast("network.Activation", name)


def _normaliser(given: Exported, *, target: str) -> network.Normaliser | None:
    if given.mean is None and given.std is None:
        return None
    if given.mean is None or given.std is None:
        raise InvalidInput(
            f"policy() of {target}", given="mean or std alone", expected="both, or none", cure="Give both."
        )
    mean, std = (np.array(array, dtype=np.float32) for array in (given.mean, given.std))
    return network.Normaliser(mean=mean, std=std, clip=columns.NORMALISED_LIMIT)


def _head(given: Exported, *, space: gymnasium.Space[Any], target: str) -> heads.Head:
    head: heads.Head
    if given.head == "point":
        head = heads.Point(entries=spaces.action_size(space))
    elif given.head == "q_values" and isinstance(space, gymnasium.spaces.Discrete):
        head = heads.QValues(n=int(space.n))
    else:
        head = heads.for_action_space(space)
    kinds = {
        "categorical": heads.Categorical,
        "multi_categorical": heads.MultiCategorical,
        "gaussian": heads.DiagonalGaussian,
        "point": heads.Point,
        "q_values": heads.QValues,
    }
    if not isinstance(head, kinds.get(given.head, ())):
        raise InvalidInput(
            f"head of policy() of {target}",
            given=given.head,
            expected=f"one for {space}: categorical, multi_categorical, gaussian, point or q_values",
            cure="Name the head that the last layer's numbers are of.",
        )
    return head
