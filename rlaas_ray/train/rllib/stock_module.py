"""RLlib's default modules read out: as plain layers for a bundle, and as arrays for a checkpoint.

Called on the first learner by stock.py. Layers are found by RLlib's own parameter names; a name that is not there is an error.
A checkpoint holds module (targets too), Adam's moments, SAC's temperature; not the replay buffer: a resumed run refills it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID  # noqa: TID251

from rlaas_ray.errors import EngineFailed, InvalidInput
from rlaas_ray.policies import decoders, heads
from rlaas_ray.policies import network as programs
from rlaas_ray.specs.arrays import F32, Array
from rlaas_ray.train import ppo
from rlaas_ray.train.columns import Moments
from rlaas_ray.train.dqn.plan import DqnPlan
from rlaas_ray.train.network import Activation
from rlaas_ray.train.presets import PpoPlan
from rlaas_ray.train.seam import State, Trained
from rlaas_ray.train.stock import StockPlan
from rlaas_ray.train.worlds import Worlds

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
Named = Mapping[str, F32]


def state(learner: Any) -> State:
    """A copy of everything that learning needs, by name."""
    found = {f"module.{name}": _array(value) for name, value in _module(learner).state_dict().items()}
    for name, optimiser in learner._named_optimizers.items():  # noqa: SLF001 - RLlib gives no list of them
        for index, parameter in enumerate(_parameters(optimiser)):
            kept = optimiser.state.get(parameter, {})
            found |= {f"optimiser.{name}.{index}.{key}": _array(kept[key]) for key in _MOMENTS if key in kept}
    for name, value in getattr(learner, "curr_log_alpha", {}).items():
        found[f"log_alpha.{name}"] = _array(value)
    return found


def load_state(learner: Any, given: State) -> None:
    """The inverse, in place. Raises InvalidInput for arrays of another network."""
    module = _module(learner)
    own = module.state_dict()
    wanted = {name.removeprefix("module."): value for name, value in given.items() if name.startswith("module.")}
    if {name: tuple(v.shape) for name, v in own.items()} != {name: v.shape for name, v in wanted.items()}:
        raise InvalidInput(
            "checkpoint of another network",
            given=sorted(wanted)[:4],
            expected=str(sorted(own)[:4]),
            cure="Resume with the spec that the run was started with.",
        )
    module.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in wanted.items()})
    for name, optimiser in learner._named_optimizers.items():  # noqa: SLF001
        for index, parameter in enumerate(_parameters(optimiser)):
            stored = {key: given.get(f"optimiser.{name}.{index}.{key}") for key in _MOMENTS}
            kept = {key: torch.from_numpy(value.copy()) for key, value in stored.items() if value is not None}
            if kept:
                optimiser.state[parameter] = kept
    with torch.no_grad():
        for name, value in getattr(learner, "curr_log_alpha", {}).items():
            value.copy_(torch.from_numpy(given[f"log_alpha.{name}"].copy()))


def parameters(learner: Any) -> dict[str, F32]:
    """The module's, for `trained`."""
    return {name: _array(value).astype(np.float32) for name, value in _module(learner).state_dict().items()}


def start_at(learner: Any, log_std: float) -> None:
    """RLlib starts a free log std at 0; a spec may say otherwise."""
    for name, parameter in _module(learner).named_parameters():
        if name.endswith("log_std"):
            with torch.no_grad():
                parameter.fill_(log_std)


def trained(named: Named, *, plan: StockPlan, worlds: Worlds, observations: Moments) -> Mapping[str, Trained]:
    """What export.py writes."""
    settings, space = plan.settings, worlds.action_space
    decoder = decoders.for_action_space(space)
    if isinstance(settings, PpoPlan):
        network = programs.Network(
            layers=_layers(named, "encoder.actor_encoder.net", "pi.net", activation=settings.activation),
            normaliser=ppo.normaliser(observations) if plan.normalise_observations else None,
            log_std=named.get("pi.log_std"),
            parts=2 if "pi.log_std" in named else 1,
        )
        return {"": Trained(network=network, head=ppo.head_of(space), decoder=decoder)}
    if isinstance(settings, DqnPlan):
        layers = _dueling(named, settings) if settings.dueling and settings.atoms == 1 else _values(named, settings)
        support = np.linspace(settings.v_min, settings.v_max, settings.atoms, dtype=np.float32)
        head = heads.QValues(n=len(layers[-1].bias) // settings.atoms, epsilon=settings.serving_epsilon)
        network = programs.Network(layers=layers, atoms=support if settings.atoms > 1 else None)
        serving = plan.serving or ("sample" if settings.serving_epsilon > 0 else "greedy")
        return {"": Trained(network=network, head=head, decoder=decoder, serving=serving)}
    layers = _layers(named, "pi_encoder.net", "pi.net", activation=settings.activation)
    width = len(layers[-1].bias)
    if isinstance(decoder, decoders.Indices):
        return {"": Trained(network=programs.Network(layers=layers), head=heads.Categorical(n=width), decoder=decoder)}
    network = programs.Network(layers=layers, parts=2)
    return {"": Trained(network=network, head=heads.SquashedGaussian(entries=width // 2), decoder=decoder)}


def _values(named: Named, plan: DqnPlan) -> tuple[programs.Layer, ...]:
    """Without dueling `af` is the Q head; with atoms and dueling RLlib adds V to all atoms of a softmax, which is nothing."""
    return _layers(named, "encoder.net", "af.net", activation=plan.activation)


def _dueling(named: Named, plan: DqnPlan) -> tuple[programs.Layer, ...]:
    """V + A - mean A as plain layers: both streams side by side, then one product."""
    shared = _layers(named, "encoder.net", activation=plan.activation, ends=False)
    value = _layers(named, "vf.net", activation=plan.activation)
    advantage = _layers(named, "af.net", activation=plan.activation)
    last_v, last_a = value[-1], advantage[-1]
    centred = last_a.weight - last_a.weight.mean(axis=0)
    bias = last_v.bias + last_a.bias - last_a.bias.mean()
    if len(value) == 1:
        return (*shared, programs.Layer(weight=centred + last_v.weight, bias=bias, activation="linear"))
    streams = programs.Layer(
        weight=np.concatenate([value[0].weight, advantage[0].weight]),
        bias=np.concatenate([value[0].bias, advantage[0].bias]),
        activation=plan.activation,
    )
    wide = np.broadcast_to(last_v.weight, (len(centred), last_v.weight.shape[1]))
    last = programs.Layer(weight=np.concatenate([wide, centred], axis=1), bias=bias, activation="linear")
    return (*shared, streams, last)


def _layers(named: Named, *towers: str, activation: Activation, ends: bool = True) -> tuple[programs.Layer, ...]:
    """The affine layers of RLlib's MLPs one after another; the last is linear when the tower `ends` there."""
    found: list[tuple[F32, F32]] = []
    for tower in towers:
        indices = sorted(
            int(name.removeprefix(f"{tower}.mlp.").partition(".")[0])
            for name in named
            if name.startswith(f"{tower}.mlp.") and name.endswith(".weight")
        )
        if not indices:
            raise EngineFailed(
                f"RLlib's module has no {tower}", given=sorted(named)[:8], expected=f"{tower}.mlp.0.weight"
            )
        found += [(named[f"{tower}.mlp.{i}.weight"], named[f"{tower}.mlp.{i}.bias"]) for i in indices]
    last = len(found) - 1 if ends else len(found)
    return tuple(
        programs.Layer(weight=weight, bias=bias, activation="linear" if i == last else activation)
        for i, (weight, bias) in enumerate(found)
    )


def _module(learner: Any) -> torch.nn.Module:
    module: torch.nn.Module = learner.module[DEFAULT_MODULE_ID].unwrapped()
    return module


def _parameters(optimiser: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _array(value: Any) -> Array:
    tensor = value.detach().cpu() if isinstance(value, torch.Tensor) else torch.tensor(value)
    found: Array = tensor.numpy().copy()
    return found
