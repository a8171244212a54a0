"""Documents that the pictures are tested on: made here by formula, in the form that a search gives."""

from __future__ import annotations

from typing import Any

import numpy as np


def result(
    count: int = 60, *, directions: tuple[str, ...] = ("min", "max", "min"), seed: int = 0, **more: Any
) -> dict[str, Any]:
    """A result with `count` points of no meaning, one chosen, two anchors."""
    rng = np.random.default_rng(seed)
    width = len(directions)
    scale = 10.0 ** np.arange(width)
    rows = (rng.random((count, width)) * scale + scale).tolist()
    names = [f"goal_{i}" for i in range(width)]
    chosen = rows[count // 2] if rows else [1.0] * width
    return {
        "problem": "5g",
        "objectives": [
            {"name": n, "unit": "W" if i == 0 else "1", "direction": d}
            for i, (n, d) in enumerate(zip(names, directions, strict=True))
        ],
        "front": rows,
        "front_size": count,
        "chosen": {
            "index": count // 2,
            "objectives": dict(reversed(list(zip(names, chosen, strict=True)))),
            "score": 0.7,
        },
        "weights": dict(zip(names, np.linspace(1, 2, width).tolist(), strict=True)),
        "hypervolume": 0.5,
        "hypervolume_trace": (1 - np.exp(-np.arange(200) / 40)).tolist(),
        "anchors": {
            "even": dict(zip(names, (scale * 1.5).tolist(), strict=True)),
            "greedy": dict(zip(names, (scale * 1.9).tolist(), strict=True)),
        },
        "generations": 200,
        "evaluations": 20_002,
        "seconds": 3.25,
        "seed": 7,
        "ended_because": "all 200 generations are done",
        **more,
    }


def events(count: int = 20, *, width: int = 3) -> list[dict[str, Any]]:
    """Fronts that were told of while a search ran."""
    rng = np.random.default_rng(1)
    return [
        {
            "generation": 10 * (i + 1),
            "front": (rng.random((30, width)) * 10.0 ** np.arange(width)).tolist(),
            "hypervolume": 1 - 0.9**i,
        }
        for i in range(count)
    ]
