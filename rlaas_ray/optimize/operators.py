"""pymoo's operators as a Variation, and a Variation as pymoo's operators: whichever side asks, the other one's rows come.

Called by mixing.py (permutations), algorithms on a user's own operators, and library.py. What a user wrote is called as
pymoo calls it: on Individuals, with `random_state`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pymoo.core.crossover import Crossover
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.sampling import Sampling
from pymoo.operators.crossover.ox import OrderCrossover
from pymoo.operators.mutation.inversion import InversionMutation
from pymoo.operators.sampling.rnd import PermutationRandomSampling

from rlaas_ray.errors import NotBuilt
from rlaas_ray.optimize import variables
from rlaas_ray.optimize.kernels.variation import Variation
from rlaas_ray.specs.arrays import F64, I64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PymooVariation:
    """A problem's variation by pymoo's operators: sampling, a crossover of two parents, mutation, perhaps a repair."""

    problem: Any
    variables: variables.Variables
    sampling: Any
    crossover: Any
    mutation: Any
    repairing: Any = None

    def __post_init__(self) -> None:
        parents, children = int(self.crossover.n_parents), int(self.crossover.n_offsprings)
        if parents != 2 or children not in {1, 2}:
            raise NotBuilt(
                "a crossover of these sizes",
                given=f"{parents} parents, {children} children",
                expected="2 parents, 1 or 2 children",
                cure="Run pymoo's own algorithm with it.",
            )

    def sample(self, rows: int, rng: np.random.Generator) -> F64:
        """See Variation."""
        found = self.sampling(self.problem, rows, random_state=rng)
        return self._rows(self._repaired(found, rng))

    def repair(self, x: F64) -> F64:
        """Settled; pymoo's repair draws nothing for a row that is given."""
        found = Population.new(X=self.variables.decode(self.variables.settle(x)))
        return self._rows(self._repaired(found, np.random.default_rng(0)))

    def children(self, x: F64, *, first: I64, second: I64, each: int, rng: np.random.Generator) -> F64:
        """See Variation."""
        parents = Population.new(X=self.variables.decode(x))
        pairs = [np.stack([first, second], axis=1)]
        if each > int(self.crossover.n_offsprings):
            pairs.append(np.stack([second, first], axis=1))
        born = [
            self.crossover(self.problem, parents, parents=pair, random_state=rng)[: each * len(first)] for pair in pairs
        ]
        found = self.mutation(self.problem, Population.merge(*born) if len(born) > 1 else born[0], random_state=rng)
        return self._rows(self._repaired(found, rng))

    def _repaired(self, population: Any, rng: np.random.Generator) -> Any:
        if self.repairing is None:
            return population
        return self.repairing(self.problem, population, random_state=rng)

    def _rows(self, population: Any) -> F64:
        return self.variables.encode([one.X for one in population])


def permutations(problem: Any) -> PymooVariation:
    """Orders of 0 to d - 1: order crossover (Davis 1985) and inversion, both pymoo's."""
    return PymooVariation(
        problem=problem,
        variables=variables.of(problem),
        sampling=PermutationRandomSampling(),
        crossover=OrderCrossover(),
        mutation=InversionMutation(),
    )


class VariedSampling(Sampling):  # type: ignore[misc, no-any-unimported]  # pymoo has no types
    """Rows of a Variation, those of `start` first."""

    def __init__(self, variation: Variation, *, start: F64 | None) -> None:
        super().__init__()
        self.variation, self.start = variation, start

    def _do(self, problem: Any, n_samples: int, *_: Any, random_state: np.random.Generator, **__: Any) -> F64:
        x = self.variation.sample(n_samples, random_state)
        if self.start is not None:
            known = self.variation.repair(self.start[:n_samples])
            x[: len(known)] = known
        return x


class VariedCrossover(Crossover):  # type: ignore[misc, no-any-unimported]  # pymoo has no types
    """`each` children of two parents; they are mutated already."""

    def __init__(self, variation: Variation, *, each: int = 2) -> None:
        super().__init__(2, each, prob=1.0)
        self.variation = variation

    def _do(self, problem: Any, x: F64, *_: Any, random_state: np.random.Generator, **__: Any) -> F64:
        matings = x.shape[1]
        both = x.reshape(2 * matings, -1).astype(np.float64)
        first = np.arange(matings)
        each = int(self.n_offsprings)
        born = self.variation.children(both, first=first, second=first + matings, each=each, rng=random_state)
        return born.reshape(each, matings, -1)


class NoMutation(Mutation):  # type: ignore[misc, no-any-unimported]  # pymoo has no types
    """The crossover beside it mutates."""

    def _do(self, problem: Any, x: F64, *_: Any, **__: Any) -> F64:
        return x
