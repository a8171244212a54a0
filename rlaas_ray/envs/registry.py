"""Environments by name: our Gymnasium ids, any other Gymnasium id, any `module:Class`; single or vector, with errors that help.

Called by train, evaluation, serving's set-up and the doors. Importing this module registers our ids with Gymnasium (1.x has
no plugin entry points: it asks packages to register on import). Never steps an environment but to find out whether it keeps
the API.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from rlaas_ray.envs import catalogue, reward, vector, view
from rlaas_ray.envs.catalogue import ENTRIES
from rlaas_ray.errors import InvalidInput, NotFound, RlaasError, nearest

Env = gymnasium.Env[Any, Any]
VectorEnv = gymnasium.vector.VectorEnv[Any, Any, Any]
Weights = tuple[float, ...] | Mapping[str, float]

RAN, RAN_TINY = catalogue.RAN, catalogue.RAN_TINY
DATASETS = {"5g_network_data": RAN}


def register() -> None:
    """Make our ids known to Gymnasium; a second call changes nothing."""
    for env in ENTRIES:
        if env not in gymnasium.registry:
            gymnasium.register(
                env,
                entry_point=functools.partial(_single, env),
                vector_entry_point=functools.partial(_many, env),
                disable_env_checker=True,
            )


def known() -> list[str]:
    """Our ids first, then every other id that Gymnasium knows."""
    return [*ENTRIES, *sorted(set(gymnasium.registry) - set(ENTRIES))]


def ours() -> list[str]:
    """The ids that this package brings."""
    return list(ENTRIES)


def resolve(env: str) -> str:
    """The environment that a data set's name stands for; every other name is its own."""
    return DATASETS.get(env, env)


def training_view(env: str) -> view.TrainingView | None:
    """The shared view of a factored environment, or None."""
    entry = ENTRIES.get(resolve(env))
    made: view.TrainingView | None = None if entry is None or entry.view is None else _view(entry.view)
    return made


def baselines_of(env: str) -> ModuleType | None:
    """The module with POLICIES and REFERENCES of an environment, or None."""
    entry = ENTRIES.get(resolve(env))
    return None if entry is None else importlib.import_module(entry.baselines)


def domain(env: str, **config: Any) -> vector.Domain:
    """The pure functions of one of our environments; `reward` of the configuration replaces its reward."""
    own = config.pop("reward", None)
    made: vector.Domain = catalogue.load(ENTRIES[env].domain)(**config)
    return made if own is None else reward.Rewarded(made, reward.load(own))


def make(
    env: str,
    *,
    mode: str | None = None,
    weights: Weights | None = None,
    config: Mapping[str, Any] | None = None,
) -> Env:
    """One environment."""
    env = resolve(env)
    arguments = _arguments(mode=mode, weights=weights, config=config)
    if ":" in env:
        return _construct(env, arguments=arguments)
    _spec(env)
    return _built(env, lambda: gymnasium.make(env, **arguments))  # type: ignore[return-value]


def make_vector(
    env: str,
    *,
    num_envs: int,
    seed: int,
    first_index: int = 0,
    mode: str | None = None,
    weights: Weights | None = None,
    config: Mapping[str, Any] | None = None,
) -> VectorEnv:
    """`num_envs` environments, seeded: the first `reset()` without a seed already depends on `seed` and `first_index` alone.

    The native vector form where there is one, else Gymnasium's SyncVectorEnv. `metadata["autoreset_mode"]` tells how
    episodes follow.
    """
    if num_envs < 1:
        raise InvalidInput("num_envs", given=num_envs, expected="1 or more", cure="Ask for at least one.")
    env, arguments = resolve(env), _arguments(mode=mode, weights=weights, config=config)
    if env in ENTRIES:
        arguments |= {"seed": seed, "first_index": first_index}
        return _built(env, lambda: gymnasium.make_vec(env, num_envs=num_envs, **arguments))  # type: ignore[return-value]
    if ":" not in env and _spec(env).vector_entry_point is not None:
        made: VectorEnv = _built(env, lambda: gymnasium.make_vec(env, num_envs=num_envs, **arguments))  # type: ignore[assignment]
        made.reset(seed=_seeds(seed, first=first_index, count=1)[0])
        return made

    def single() -> Env:
        return make(env, mode=mode, weights=weights, config=config)

    made = gymnasium.vector.SyncVectorEnv([single] * num_envs, autoreset_mode=AutoresetMode.NEXT_STEP)
    made.reset(seed=_seeds(seed, first=first_index, count=num_envs))
    return made


def spaces(env: str, config: Mapping[str, Any] | None = None) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
    """Observation and action space of one environment."""
    made = make(env, config=config)
    found = made.observation_space, made.action_space
    made.close()  # type: ignore[no-untyped-call]  # Gymnasium leaves it untyped
    return found


@functools.cache
def _view(name: str) -> Any:
    return catalogue.load(name)()


def _single(env: str, *, render_mode: str | None = None, **config: Any) -> vector.DomainEnv:
    made = domain(env, **config)
    kind = vector.MaskedDomainEnv if "action_mask" in made.reported else vector.DomainEnv
    return kind(made, render_mode=render_mode)


def _many(
    env: str, num_envs: int, *, seed: int | None = None, first_index: int = 0, **config: Any
) -> vector.DomainVectorEnv:
    return vector.DomainVectorEnv(
        domain(env, **config), num_envs=num_envs, seed=seed, first_index=first_index, block=ENTRIES[env].block
    )


def _arguments(*, mode: str | None, weights: Weights | None, config: Mapping[str, Any] | None) -> dict[str, Any]:
    arguments = dict(config or {})
    if mode is not None:
        arguments["mode"] = mode
    if weights is not None:
        arguments["weights"] = dict(weights) if isinstance(weights, Mapping) else tuple(weights)
    return arguments


def _spec(env: str) -> gymnasium.envs.registration.EnvSpec:
    try:
        return gymnasium.spec(env)
    except gymnasium.error.Error as error:
        raise NotFound(
            f"environment {env!r}",
            given=str(error).split(".")[0],
            expected="a Gymnasium id, or module:Class",
            cure=nearest(env, known()),
        ) from error


def _construct(env: str, *, arguments: dict[str, Any]) -> Env:
    """An environment of `module:Class`, or of `module:Id-v0` where the module registers it; proven to keep the API."""
    module, _, name = env.partition(":")
    try:
        loaded = importlib.import_module(module)
    except ImportError as error:
        raise NotFound(
            f"module {module!r} of environment {env!r}",
            given=str(error),
            expected="an importable module",
            cure="Install it, or run where it can be imported; in a cluster it must be in the image or travel as py_modules.",
        ) from error
    if name in gymnasium.registry:
        return _built(env, lambda: gymnasium.make(name, **arguments))  # type: ignore[return-value]
    found = getattr(loaded, name, None)
    if not (isinstance(found, type) and issubclass(found, gymnasium.Env)):
        raise InvalidInput(
            f"environment {env!r}",
            given="nothing of that name"
            if found is None
            else type(found).__name__
            if not isinstance(found, type)
            else found.__name__,
            expected="a subclass of gymnasium.Env",
            cure=_cure_of(name, loaded=loaded, found=found),
        )
    made: Env = _built(env, lambda: found(**arguments))  # type: ignore[assignment]
    if not made.metadata.get("live"):  # what moves something real is stepped by its user alone
        _probe(env, made)
    return made


def _cure_of(name: str, *, loaded: ModuleType, found: object) -> str:
    if isinstance(found, type):
        return f"Let {name} inherit from gymnasium.Env."
    classes = [
        key for key, value in vars(loaded).items() if isinstance(value, type) and issubclass(value, gymnasium.Env)
    ]
    return nearest(name, classes) if classes else "No subclass of gymnasium.Env is in that module."


def _built(env: str, make_it: Any) -> Env | VectorEnv:
    try:
        return make_it()  # type: ignore[no-any-return]
    except RlaasError:
        raise
    except TypeError as error:
        raise InvalidInput(
            f"arguments of environment {env!r}",
            given=str(error),
            expected="keyword arguments that its constructor takes",
            cure="Look at `rlaas env show`, or leave mode, weights and env_config out.",
        ) from error
    except Exception as error:  # an environment is foreign code: whatever it raises, say whose fault it is
        raise InvalidInput(
            f"environment {env!r} could not be made",
            given=f"{type(error).__name__}: {error}",
            expected="a constructor that returns",
            cure="Make it by hand with gymnasium.make to see the whole traceback.",
        ) from error


def _probe(env: str, made: Env) -> None:
    """One reset and one step: enough to name what is wrong instead of failing deep in a worker."""
    for name in ("observation_space", "action_space"):
        if not isinstance(getattr(made, name, None), gymnasium.Space):
            raise _breaks(env, given=f"{name} = {getattr(made, name, None)!r}", expected=f"a gymnasium.Space as {name}")
    try:
        started: Any = made.reset(seed=0)
        made.action_space.seed(0)
        stepped: Any = made.step(made.action_space.sample())
    except RlaasError:
        raise
    except Exception as error:
        raise _breaks(
            env, given=f"{type(error).__name__}: {error}", expected="reset(seed=...) and step(action)"
        ) from error
    for name, given, wanted in (
        ("reset", started, ("observation", "info")),
        ("step", stepped, ("observation", "reward", "terminated", "truncated", "info")),
    ):
        if not isinstance(given, tuple) or len(given) != len(wanted) or not isinstance(given[-1], dict):
            size = f"a tuple of {len(given)}" if isinstance(given, tuple) else type(given).__name__
            raise _breaks(env, given=f"{name}() gave {size}", expected=f"({', '.join(wanted)}), info a dict")
    if not made.observation_space.contains(started[0]):
        seen = np.asarray(started[0])
        raise _breaks(
            env,
            given=f"an observation of shape {seen.shape}, {seen.dtype}",
            expected=f"a member of {made.observation_space}",
        )


def _breaks(env: str, *, given: str, expected: str) -> InvalidInput:
    return InvalidInput(
        f"environment {env!r} breaks the Gymnasium API",
        given=given,
        expected=expected,
        cure=f"`rlaas env check {env}` runs every check.",
    )


def _seeds(seed: int, *, first: int, count: int) -> list[int | None]:
    """Seeds of environments first..first+count-1: a function of (seed, number) alone."""
    return [
        int(np.random.SeedSequence((seed, number)).generate_state(1)[0] >> 1) for number in range(first, first + count)
    ]


register()
