"""A problem whose rows may hang or raise, for the evaluator on Ray: `marks` is a folder where a row leaves that it hung once."""

import time
from pathlib import Path

import numpy as np
from pymoo.core.problem import Problem


class Dear(Problem):
    """Two distances; x[0] > 0.9 hangs at its first trial, > 0.95 always, < 0.05 raises."""

    def __init__(self, marks: str = "") -> None:
        self.marks = marks
        super().__init__(n_var=2, n_obj=2, xl=0.0, xu=1.0)

    def _evaluate(self, x, out, *args, **kwargs) -> None:
        time.sleep(0.01 * len(x))
        if (x[:, 0] < 0.05).any():
            raise ValueError("a bad row")
        for row in x[x[:, 0] > 0.9] if self.marks else ():
            mark = Path(self.marks) / f"{row[0]:.6f}"
            if row[0] > 0.95 or not mark.exists():
                mark.touch()
                time.sleep(600)
        out["F"] = np.stack([(x**2).sum(1), ((x - 1) ** 2).sum(1)], axis=1)
