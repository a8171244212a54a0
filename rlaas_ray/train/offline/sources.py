"""Where an offline training reads from: log:ENDPOINT, minari:ID, or Parquet.

Called by trainer.py. Gives rows as they were written; encoding and checks are dataset.py's. Never writes.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from rlaas_ray.data import training_rows
from rlaas_ray.data.training_rows import TrainingRows
from rlaas_ray.errors import InvalidInput, NotFound
from rlaas_ray.specs.arrays import Array

LOG, MINARI = "log:", "minari:"
FORMS = "log:ENDPOINT, minari:ID, or a Parquet file, folder or glob"


def read(dataset: str, *, data_url: str | None) -> TrainingRows:
    """All rows. `data_url`: where this installation keeps its decision log. Raises NotFound, InvalidInput."""
    if dataset.startswith(LOG):
        if data_url is None:
            raise InvalidInput(
                "dataset",
                given=dataset,
                expected="a decision log at hand",
                cure="`rlaas log export ENDPOINT --to FILE.parquet` writes one; name that file.",
            )
        return training_rows.of_log(data_url, endpoint=dataset.removeprefix(LOG))
    if dataset.startswith(MINARI):
        return of_minari(dataset.removeprefix(MINARI))
    return training_rows.of_parquet(dataset)


def of_minari(dataset_id: str) -> TrainingRows:
    """A data set of the Minari library, from this machine's disk (MINARI_DATASETS_PATH); nothing is downloaded."""
    try:
        minari: Any = importlib.import_module("minari")
    except ImportError:
        raise InvalidInput(
            "dataset",
            given=f"{MINARI}{dataset_id}",
            expected="the minari library",
            cure="pip install 'rlaas-ray[minari]'",
        ) from None
    try:
        found = minari.load_dataset(dataset_id)
    except (FileNotFoundError, ValueError) as error:
        raise NotFound(
            "Minari data set", given=dataset_id, expected="one on this machine", cure=f"{error} `minari list local`"
        ) from None
    episodes = [_episode(episode) for episode in found.iterate_episodes()]
    if not episodes:
        raise InvalidInput("dataset", given=f"{MINARI}{dataset_id}: no episodes", expected="one or more")
    return _joined(episodes)


def _episode(episode: Any) -> tuple[Any, Any, Array, Array, Array, Array]:
    """Observations before and after each step, actions, rewards, terminations, truncations of one episode."""
    return (
        _sliced(episode.observations, slice(0, -1)),
        _sliced(episode.observations, slice(1, None)),
        np.asarray(episode.actions),
        np.asarray(episode.rewards, dtype=np.float64),
        np.asarray(episode.terminations, dtype=np.bool_),
        np.asarray(episode.truncations, dtype=np.bool_),
    )


def _joined(episodes: list[tuple[Any, Any, Array, Array, Array, Array]]) -> TrainingRows:
    before, after, actions, rewards, terminated, truncated = zip(*episodes, strict=True)
    sizes = [len(part) for part in rewards]
    count = sum(sizes)
    follows = np.ones(count, dtype=np.bool_)
    follows[np.cumsum(sizes) - 1] = False
    return TrainingRows(
        observation=_together(before),
        next_observation=_together(after),
        action=np.concatenate([np.asarray(part, dtype=np.float64).reshape(len(part), -1) for part in actions]),
        reward=np.concatenate(rewards),
        terminated=np.concatenate(terminated),
        truncated=np.concatenate(truncated),
        follows=follows,
        usable=np.ones(count, dtype=np.bool_),
        propensity=np.full(count, np.nan),
    )


def _sliced(values: Any, part: slice) -> Any:
    if isinstance(values, Mapping):
        return {key: _sliced(value, part) for key, value in values.items()}
    if isinstance(values, tuple):
        return tuple(_sliced(value, part) for value in values)
    return values[part]


def _together(parts: tuple[Any, ...]) -> Any:
    if isinstance(parts[0], Mapping):
        return {key: _together(tuple(part[key] for part in parts)) for key in parts[0]}
    if isinstance(parts[0], tuple):
        return tuple(_together(column) for column in zip(*parts, strict=True))
    return np.concatenate(parts)
