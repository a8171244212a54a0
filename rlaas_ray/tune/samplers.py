"""Who proposes the next trial: the grid, chance, or a sampler of Optuna; asked and told in the order of the journal.

Called by study.py and raytune.py. A sampler is seeded anew before each proposal, from the study's seed and the trial's number, so
that a study that was killed goes on as if it had not been. Never writes the journal.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from rlaas_ray.specs.tune import TuneSpec
from rlaas_ray.tune import ranking
from rlaas_ray.tune.journal import Trial
from rlaas_ray.tune.spaces import Choice, Domain, Float, Parameters, Space

_STATES = {"completed": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}


class Sampler(Protocol):
    """Proposes, and learns from what came of it."""

    def ask(self, number: int) -> Parameters | None:
        """The parameters of trial `number`; None when there are no more."""
        ...

    def tell(self, trial: Trial) -> None:
        """A trial has ended."""
        ...

    def asked(self, number: int, parameters: Mapping[str, Any]) -> None:
        """The journal says that this was proposed, in this place of the order."""
        ...


class Chance:
    """Uniform over the space (Bergstra & Bengio 2012)."""

    def __init__(self, space: Space, *, seed: int) -> None:
        self._space, self._seed = space, seed

    def ask(self, number: int) -> Parameters | None:
        return self._space.draw(np.random.default_rng([self._seed, number]))

    def tell(self, trial: Trial) -> None:
        return None

    def asked(self, number: int, parameters: Mapping[str, Any]) -> None:
        return None


class Grid:
    """Every point once."""

    def __init__(self, space: Space) -> None:
        self._space = space

    def ask(self, number: int) -> Parameters | None:
        return next(itertools.islice(self._space.all(), number, None), None)

    def tell(self, trial: Trial) -> None:
        return None

    def asked(self, number: int, parameters: Mapping[str, Any]) -> None:
        return None


class Suggested:
    """A sampler of Optuna over an in-memory study of its own.

    TPE (Bergstra et al. 2011), multivariate; Gaussian processes (Optuna's GPSampler); CMA-ES (Hansen 2016); NSGA-II (Deb et
    al. 2002). Constraints are told as Optuna has them: kept where at most 0.
    """

    def __init__(self, spec: TuneSpec, space: Space, *, parallel: int, warm: Sequence[Trial]) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space, self._seed, self._kind, self._parallel = space, spec.seed, spec.search, parallel
        up, down = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
        directions = [up if objective.maximise else down for objective in spec.objectives]
        self._constraints = len(spec.constraints)
        self._warm = [_finished(trial, space=space) for trial in warm]
        self._study = optuna.create_study(directions=directions)
        self._open: dict[int, optuna.trial.Trial] = {}
        self._population = min(50, max(4, (spec.trials or 20) // 5))
        if spec.search in {"tpe", "gp"}:
            self._study.add_trials(self._warm)
        elif (
            spec.search == "nsga2"
        ):  # it counts generations of its own trials alone: the best of before are tried again
            for trial in ranking.ranked(warm, maximise=[o.maximise for o in spec.objectives])[: self._population]:
                self._study.enqueue_trial(coded(trial.parameters, space=space))

    def ask(self, number: int) -> Parameters | None:
        self._study.sampler = self._sampler(number)
        trial = self._open[number] = self._study.ask()
        return suggested(trial, space=self._space)

    def tell(self, trial: Trial) -> None:
        mine = self._open.pop(trial.number, None)
        if mine is None:
            self._study.add_trial(_finished(trial, space=self._space))
            return
        for index, violation in enumerate(trial.violations):
            mine.set_constraint(str(index), violation)
        if trial.state == "completed":
            self._study.tell(mine, trial.values)
        elif trial.state == "stopped" and trial.values is not None:
            mine.report(trial.values[0], trial.step)
            self._study.tell(mine, state=TrialState.PRUNED)
        else:
            self._study.tell(mine, state=TrialState.FAIL)

    def asked(self, number: int, parameters: Mapping[str, Any]) -> None:
        # CMA-ES and NSGA-II keep their generations beside the trials: they propose again. The others look at told trials only.
        if self._kind in {"cmaes", "nsga2"}:
            self.ask(number)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        seed = seed_of(self._seed, number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if self._kind == "gp":
                return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
            if self._kind == "cmaes":
                warm = self._warm or None
                return optuna.samplers.CmaEsSampler(seed=seed, source_trials=warm, warn_independent_sampling=False)
            if self._kind == "nsga2":
                return optuna.samplers.NSGAIISampler(seed=seed, population_size=self._population)
            return optuna.samplers.TPESampler(
                seed=seed, multivariate=True, group=bool(self._space.when), constant_liar=self._parallel > 1
            )


def of(spec: TuneSpec, space: Space, *, parallel: int, warm: Sequence[Trial]) -> Sampler:
    """The sampler of a spec's search. `warm`: completed trials of earlier studies that are points of the space."""
    if spec.search == "grid":
        return Grid(space)
    if spec.search == "random":
        return Chance(space, seed=spec.seed)
    return Suggested(spec, space, parallel=parallel, warm=warm)


def seed_of(seed: int, number: int) -> int:
    """One seed for each proposal; NumPy's SeedSequence keeps neighbours apart."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def distribution(domain: Domain) -> BaseDistribution:
    """A domain as Optuna has it; a choice is the number of its place, so that lists may be chosen from."""
    if isinstance(domain, Choice):
        return CategoricalDistribution(tuple(range(len(domain.listed))))
    if isinstance(domain, Float):
        high = domain.high if domain.step is None else domain.values()[-1]
        return FloatDistribution(domain.low, high, log=domain.log, step=domain.step)
    return IntDistribution(domain.low, domain.values()[-1], log=domain.log, step=domain.step)


def suggested(trial: optuna.trial.Trial, *, space: Space) -> Parameters:
    """What a trial of Optuna proposes, as parameters."""
    found: Parameters = {}
    for name, domain in space.domains.items():
        if not space.taken(name, found):
            continue
        kind = distribution(domain)
        if isinstance(kind, CategoricalDistribution):
            assert isinstance(domain, Choice)
            found[name] = domain.listed[int(trial.suggest_categorical(name, kind.choices))]  # type: ignore[arg-type]
        elif isinstance(kind, FloatDistribution):
            found[name] = trial.suggest_float(name, kind.low, kind.high, log=kind.log, step=kind.step)
        else:
            assert isinstance(kind, IntDistribution)
            found[name] = trial.suggest_int(name, kind.low, kind.high, log=kind.log, step=kind.step)
    return found


def coded(parameters: Mapping[str, Any], *, space: Space) -> Parameters:
    """Parameters as Optuna keeps them."""
    domains = ((name, space.domains[name], value) for name, value in parameters.items())
    return {name: d.listed.index(value) if isinstance(d, Choice) else value for name, d, value in domains}


def _finished(trial: Trial, *, space: Space) -> FrozenTrial:
    state = _STATES[trial.state]
    if state == TrialState.PRUNED and trial.values is None:
        state = TrialState.FAIL
    return optuna.trial.create_trial(
        state=state,
        values=trial.values if state == TrialState.COMPLETE else None,
        params=coded(trial.parameters, space=space),
        distributions={name: distribution(space.domains[name]) for name in trial.parameters},
        intermediate_values=dict(_intermediate(trial)) if state == TrialState.PRUNED else None,
        constraints={str(index): violation for index, violation in enumerate(trial.violations)} or None,
    )


def _intermediate(trial: Trial) -> Iterator[tuple[int, float]]:
    if trial.values is not None and math.isfinite(trial.values[0]):
        yield trial.step, trial.values[0]
