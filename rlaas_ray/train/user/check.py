"""Is a user's algorithm fit? Each promise of the protocol tried alone, on small envs of both kinds; every fault with its cure.

Called by `rlaas algorithms check` and by tests. Runs foreign code; trains nothing that is kept.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlaas_ray.errors import RlaasError
from rlaas_ray.policies import spaces
from rlaas_ray.policies.engines import choice
from rlaas_ray.specs.arrays import Array
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train.seam import Build, Trainer
from rlaas_ray.train.user import family, finding, policy
from rlaas_ray.train.user import plans as user_plans
from rlaas_ray.train.user.counting import spaces_of
from rlaas_ray.train.user.plain import is_plain
from rlaas_ray.train.user.plans import UserPlan
from rlaas_ray.train.worlds import Worlds
from rlaas_ray.train.worlds import of as worlds_of

ENVS = ("CartPole-v1", "Pendulum-v1")
PLAIN_ENVS = (*ENVS, "FrozenLake-v1")  # plain agents see raw observations; many are tables
_ROWS, _BATCH = 8, 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One promise on one env: kept, or why not and what to do. `advice` findings do not make an algorithm unfit."""

    env: str
    name: str
    passed: bool
    detail: str = ""
    cure: str = ""
    advice: bool = False


class _Failed(Exception):
    """A check's own words for what is wrong, and what to do."""

    def __init__(self, detail: str, *, cure: str) -> None:
        super().__init__(detail)
        self.cure = cure


def check(name: str, *, envs: Sequence[str] = (), config: Mapping[str, Any] | None = None) -> tuple[Finding, ...]:
    """Every promise on every env; on small ones of both kinds, if none is named. One that the constructor refuses is passed over.

    Raises NotFound and InvalidInput for a name that is no algorithm at all, and for an env that cannot be made.
    """
    target = finding.target_of(name)
    kind = finding.load(target)
    family.kept(kind, target=target)
    envs = envs or (PLAIN_ENVS if is_plain(kind) else ENVS)
    found = [item for env in envs for item in _on(env, kind=kind, target=target, config=dict(config or {}))]
    if all(item.advice for item in found):
        found.append(
            Finding(
                env="-",
                name="takes some env",
                passed=False,
                detail=f"its constructor refused {', '.join(envs)}: {found[0].detail}",
                cure="`--env ENV` checks on an env that it is made for; `--set KEY=VALUE` fills its config.",
            )
        )
    return tuple(found)


def fit(findings: Sequence[Finding]) -> bool:
    """True when nothing but advice failed."""
    return all(item.passed or item.advice for item in findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One algorithm on one env."""

    kind: type[Any]
    target: str
    env: str
    config: Mapping[str, Any]
    folder: Path

    def spec(self, seed: int) -> TrainSpec:
        return TrainSpec(
            env=self.env,
            algorithm=self.target,
            options=dict(self.config),
            seed=seed,
            batch_size=_BATCH,
            num_envs_per_runner=_ROWS,
            total_timesteps=100 * _BATCH,
        )

    def worlds(self) -> Worlds:
        return worlds_of(self.spec(0))

    def plan(self, seed: int) -> UserPlan:
        return user_plans.resolve(self.spec(seed), target=self.target)

    def made(self, seed: int = 0) -> Any:
        """An algorithm of the protocol."""
        return family.made(self.kind, self.worlds(), plan=self.plan(seed))

    def trainer(self, seed: int = 0) -> Trainer:
        given = Build(
            spec=self.spec(seed),
            plan=self.plan(seed),
            worlds=self.worlds(),
            directory=self.folder,
            slice_s=0.0,
            actor_cpus=1.0,
        )
        return family.family_of(self.target).trainer(given)


def _on(env: str, *, kind: type[Any], target: str, config: dict[str, Any]) -> list[Finding]:
    with tempfile.TemporaryDirectory() as folder:
        case = _Case(kind=kind, target=target, env=env, config=config, folder=Path(folder))
        case.worlds()  # an env that there is not is the caller's mistake
        try:
            case.trainer().stop()
        except RlaasError as error:
            refused = "its constructor does not take this env"
            words = "None is needed, unless it is made for such envs."
            return [Finding(env=env, name=refused, passed=False, detail=error.detail, cure=words, advice=True)]
        plain, own = is_plain(kind), hasattr(kind, "train")
        checks: list[tuple[str, Callable[[_Case], str | None], bool]] = [
            ("its state goes on where it was", _state, False),
            ("the same seed gives the same training", _same_seed, True),
            ("no global generator is drawn from", _no_global, True),
        ]
        if plain or own:
            checks.append(("train gives way between chunks", _gives_way, True))
        if not plain:
            checks += [
                ("actions have the form of the batch", _actions, False),
                ("a row's action does not depend on its batch", _rows, True),
                ("what can be served is what it does", _exported, False),
            ]
        checks.append(("CPU time of an env step", _speed, True))
        found = [_run(case, _trains, name="trains and counts true returns", advice=False)]
        if found[0].passed:  # else all that follows would say the same
            found += [_run(case, body, name=name, advice=advice) for name, body, advice in checks]
        return found


def _run(case: _Case, body: Callable[[_Case], str | None], *, name: str, advice: bool) -> Finding:
    try:
        detail = body(case)
    except _Failed as failure:
        return Finding(env=case.env, name=name, passed=False, detail=str(failure), cure=failure.cure, advice=advice)
    except RlaasError as error:
        return Finding(env=case.env, name=name, passed=False, detail=error.detail, cure=error.cure or "", advice=advice)
    except Exception as error:  # noqa: BLE001 - foreign code under test: whatever it raises is the finding
        detail = f"{type(error).__name__}: {error}"
        return Finding(env=case.env, name=name, passed=False, detail=detail, cure=_BY_HAND, advice=advice)
    return Finding(env=case.env, name=name, passed=True, detail=detail or "", advice=advice)


_BY_HAND = "Call it by hand in a shell: the traceback names the line."


def _trains(case: _Case) -> str:
    trainer = case.trainer()
    for _ in range(3):
        trainer.train()
    done, stats = trainer.ledger, dict(trainer.stats)
    trainer.stop()
    if done.steps == 0:
        raise _Failed("three iterations without a step of the env", cure="Step the env that is handed in.")
    shown = ", ".join(sorted(set(stats) - {"sample_share"})[:6]) or "none"
    return f"{done.steps} steps, {done.episodes} episodes; metrics: {shown}"


def _state(case: _Case) -> None:
    first = case.trainer()
    for _ in range(2):
        first.train()
    state = first.state()
    second = case.trainer(seed=1)
    second.load_state(state, ledger=first.ledger)
    again = second.state()
    different = sorted(name for name in {**state, **again} if not _equal(state.get(name), again.get(name)))
    for trainer in (first, second):
        trainer.stop()
    if different:
        raise _Failed(
            f"{', '.join(different[:4])} of its state differ after load_state",
            cure="Save all that learning changes, and set all of it in load_state (load_model).",
        )


def _same_seed(case: _Case) -> None:
    runs = [_trained(case, seed=5) for _ in range(2)]
    different = sorted(name for name in runs[0] if not _equal(runs[0][name], runs[1].get(name)))
    if different:
        raise _Failed(
            f"{', '.join(different[:4])} differ between two trainings with seed 5",
            cure="Draw from a generator of your own, made from `seed`; iterate over no sets.",
        )


def _no_global(case: _Case) -> None:
    def positions() -> tuple[Any, ...]:
        import torch  # noqa: PLC0415 - a second to import; users' algorithms mostly have it loaded

        numpys = np.random.get_state(legacy=False)  # noqa: NPY002 - looked at, never drawn from
        return repr(numpys), torch.random.get_rng_state().numpy().tobytes()

    before = positions()
    _trained(case, seed=6)
    moved = [name for name, old, new in zip(("numpy", "torch"), before, positions(), strict=True) if old != new]
    if moved:
        raise _Failed(
            f"the global generator of {' and '.join(moved)} moved",
            cure="Use numpy.random.default_rng(seed), torch.Generator().manual_seed(seed): a process has more than one run.",
        )


def _gives_way(case: _Case) -> str:
    trainer = case.trainer()
    trainer.train()
    steps = trainer.ledger.steps
    trainer.stop()
    if steps > 50 * _BATCH:
        raise _Failed(
            f"{steps} steps before the first chance to stop or save",
            cure="Yield more often, or let train(episodes) do as many episodes as it is told.",
        )
    return f"{steps} steps"


def _actions(case: _Case) -> None:
    algorithm, worlds = case.made(), case.worlds()
    observed = spaces_of(worlds)[0]
    observed.seed(0)
    for rows in (1, 3, 64):
        batch = np.stack([np.clip(observed.sample(), -10, 10) for _ in range(rows)]).astype(np.float32)
        before = batch.copy()
        for explore in (True, False):
            _, proposed = policy.chosen(algorithm, batch, explore=explore, mask=None, worlds=worlds, target=case.target)
            _inside(proposed, worlds=worlds)
        if not np.array_equal(batch, before):
            raise _Failed("choose_action changed the observations", cure="Copy what you change.")


def _inside(proposed: Array, *, worlds: Worlds) -> None:
    limit = getattr(worlds.action_space, "n", None)
    given = proposed.astype(np.float64)
    if limit is not None and not ((given >= 0) & (given < limit) & (given == np.floor(given))).all():
        raise _Failed(
            f"action {given.min():g} to {given.max():g} of {limit}",
            cure=f"Give indices from 0 to {limit - 1}, whatever the env's space starts with.",
        )


def _rows(case: _Case) -> None:
    algorithm, worlds = case.made(), case.worlds()
    batch = np.random.default_rng(0).normal(size=(16, spaces.encoded_size(worlds.observation_space))).astype(np.float32)

    def act(rows: Any) -> Array:
        return policy.chosen(algorithm, rows, explore=False, mask=None, worlds=worlds, target=case.target)[1]

    alone = np.concatenate([act(batch[i : i + 1]) for i in range(len(batch))])
    if not np.allclose(act(batch), alone, atol=1e-5):
        raise _Failed(
            "explore=False gives another action for a row alone than in its batch",
            cure="Use no statistics of the batch in choose_action, and draw nothing when explore is False.",
        )


def _exported(case: _Case) -> str:
    trainer = case.trainer()
    trainer.train()
    offered = trainer.policies()
    trainer.stop()
    if not offered:
        return f"no policy(): trains and is evaluated, but no bundle is written. {policy.CURE}"
    made = offered[""]
    algorithm: Any = getattr(trainer, "algorithm", None)
    worlds = case.worlds()
    batch = np.random.default_rng(0).normal(size=(64, made.network.inputs)).astype(np.float32)
    engine = choice.make("numpy", network=made.network, model=b"")
    mode = made.head.mode(engine.distribution(batch))
    _, acted = policy.chosen(algorithm, batch, explore=False, mask=None, worlds=worlds, target=case.target)
    executed = [made.decoder.decode(given.astype(np.float64), observations=batch) for given in (mode, acted)]
    same = np.isclose(executed[0], executed[1], atol=1e-4).all(axis=1).mean()
    if same < 1.0 - 1.0 / len(batch):  # one row may be a tie
        raise _Failed(
            f"policy() and choose_action(explore=False) agree on {same:.0%} of observations",
            cure="Export the very layers that choose_action computes, with any normalisation as mean and std.",
        )
    return f"policy(): a {type(made.head).__name__} head; a bundle is written"


def _speed(case: _Case) -> str:
    trainer = case.trainer()
    trainer.train()
    before, started = trainer.ledger.steps, time.process_time()
    for _ in range(5):
        trainer.train()
    steps = trainer.ledger.steps - before
    spent_us = (time.process_time() - started) * 1e6 / max(1, steps)
    trainer.stop()
    return f"{spent_us:.0f} us, sampling and learning"


def _trained(case: _Case, *, seed: int) -> Mapping[str, Array]:
    trainer = case.trainer(seed)
    for _ in range(2):
        trainer.train()
    state = trainer.state()
    trainer.stop()
    return {**state, "recent returns": trainer.ledger.arrays()["recent"]}


def _equal(first: Array | None, second: Array | None) -> bool:
    return first is not None and second is not None and np.array_equal(first, second)
