"""One evaluation of a batch of rows in this process, for problems that are cheap.

Called by search.py and by tests; the evaluator on Ray keeps the same promise. Calls a pymoo problem once for the whole
matrix; never a row at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pymoo.core.problem import Problem

from rlaas_ray.optimize import variables
from rlaas_ray.specs.arrays import F64


def evaluate(problem: Any, x: F64) -> tuple[F64, F64, F64]:
    """Minimised objectives f (k, m), constraints g (k, p) and h (k, q) of the rows x (k, d); p or q may be 0.

    `x` are columns as `variables.of` has them; the problem is given what it takes: integers, bits, dicts.
    """
    given = x if variables.takes_matrix(problem) else variables.of(problem).decode(x)
    inequalities, equalities = int(problem.n_ieq_constr), int(problem.n_eq_constr)
    if not len(x):
        return np.empty((0, int(problem.n_obj))), np.empty((0, inequalities)), np.empty((0, equalities))
    # A problem that wraps another one may look for all three, as pymoo asks for them.
    if not (inequalities or equalities) and type(problem).do is Problem.do:
        none: F64 = np.empty((len(x), 0))
        return np.asarray(problem.evaluate(given, return_values_of=["F"]), dtype=np.float64), none, none
    found = problem.evaluate(given, return_values_of=["F", "G", "H"], return_as_dictionary=True)
    return (
        np.asarray(found["F"], dtype=np.float64),
        np.asarray(found.get("G", ()), dtype=np.float64).reshape(len(x), inequalities),
        np.asarray(found.get("H", ()), dtype=np.float64).reshape(len(x), equalities),
    )
