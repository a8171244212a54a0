"""Files of the form in which Open Bandit is published, with drawn contexts, policies and clicks whose truth is known.

Called by tests; never by the product.
"""

from __future__ import annotations

import csv
import datetime as dt
from pathlib import Path

import numpy as np

from rlaas_ray.specs.arrays import F64

_POSITIONS = 3


def write(
    root: Path, *, arm: str, campaign: str, rows: int, seed: int, click_rates: F64, evenness: float = 1.0
) -> Path:
    """`root/arm/campaign/campaign.csv` and its items; gives the CSV's path.

    Arm `random` takes each of the `len(click_rates)` items alike; `bts` by one of 50 fixed distributions, drawn from a Dirichlet
    of `evenness` per item, the better item the likelier. An item is clicked with its rate.
    """
    rng = np.random.default_rng(seed)
    items = len(click_rates)
    each = np.full((50, items), 1.0 / items)
    if arm == "bts":
        each = np.maximum(rng.dirichlet(evenness * click_rates / click_rates.mean(), size=50), 1e-6)
        each /= each.sum(axis=1, keepdims=True)
    chance = each[rng.integers(0, 50, size=rows)]
    item = (rng.random(rows)[:, None] > chance.cumsum(axis=1)).sum(axis=1).clip(0, items - 1)
    click = rng.random(rows) < click_rates[item]
    position = rng.integers(1, _POSITIONS + 1, size=rows)
    user = rng.integers(0, 3, size=(rows, 4))
    affinity = np.round(rng.random((rows, items)), 3)
    folder = root / arm / campaign
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "item_context.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", "item_id", "item_feature_0", "item_feature_1"])
        writer.writerows([i, i, -0.5 + i, f"{i:032x}"] for i in range(items))
    path = folder / f"{campaign}.csv"
    start = dt.datetime(2019, 11, 24, tzinfo=dt.UTC)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        names = [f"user_feature_{i}" for i in range(4)] + [f"user-item_affinity_{i}" for i in range(items)]
        writer.writerow(["", "timestamp", "item_id", "position", "click", "propensity_score", *names])
        for i in range(rows):
            when = (start + dt.timedelta(milliseconds=10 * i + 1)).isoformat(sep=" ", timespec="microseconds")
            logged = [i, when, item[i], position[i], int(click[i]), repr(float(chance[i, item[i]]))]
            writer.writerow([*logged, *(f"{f}{user[i, f]:031x}" for f in range(4)), *affinity[i].tolist()])
    return path
