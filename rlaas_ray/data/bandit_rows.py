"""One-step rows of a log for off-policy evaluation: reward, probability, proposed action, observation, what was allowed.

Called by `rlaas ope`. Finds the log by path or endpoint; leaves out what no arm's statistics count, and says how many rows that
were. Episodes of several steps are refused: their weights are products.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import compute

from rlaas_ray.data import training_rows
from rlaas_ray.data.decision_log import ArrowDecisionLog
from rlaas_ray.errors import InvalidInput, NotBuilt, NotFound, nearest
from rlaas_ray.specs.arrays import F32, F64, Bool

_NEEDED = frozenset({"unit", "episode_id", "step", "time_us", "arm", "observation", "action", "propensity"})
_OF_THE_LOG = frozenset({"decision_id", "action_proposed", "fallback", "excluded", "rewards"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BanditRows:
    """n decisions that have a reward. `unrewarded` still wait for one, `left_out` were the fallback's or excluded."""

    reward: F64  # (n,)
    propensity: F64  # (n,)
    proposed: F64  # (n, a)
    observation: F32  # (n, d), encoded
    mask: Bool | None  # (n, m)
    unrewarded: int
    left_out: int


def table(log: str, *, root: str) -> pa.Table:
    """Decisions with rewards: a file of `rlaas log export`, a decision log's folder, or an endpoint of the log at `root`."""
    path = Path(log)
    if path.is_file():
        return _exported(path)
    if path.is_dir():
        home, endpoint = _endpoint_at(path)
        return ArrowDecisionLog(str(home)).joined(endpoint)
    if "/" in log or path.suffix == ".parquet":
        raise NotFound(
            "log",
            given=log,
            expected="a Parquet file, a folder of a decision log, or an endpoint",
            cure="`rlaas log export ENDPOINT --to FILE.parquet` writes one.",
        )
    held = ArrowDecisionLog(root)
    if log not in held.endpoints():
        raise NotFound("log of endpoint", given=log, cure=nearest(log, held.endpoints()))
    return held.joined(log)


def rows(logged: pa.Table, *, arm: str | None = None) -> BanditRows:
    """The rows of `arm`, or of all arms: each has the probability that its own arm gave it."""
    chosen = logged if arm is None else _of_arm(logged, arm=arm)
    _check_single(chosen)
    found = training_rows.from_decisions(chosen)
    known = ~np.isnan(found.reward)
    kept = found.usable & known
    if not kept.any():
        raise InvalidInput(
            "log",
            given=f"{len(found)} decisions, {int(known.sum())} with a reward",
            expected="one with a reward that an arm's policy decided",
            cure="Report rewards, or wait for them.",
        )
    assert found.proposed is not None
    return BanditRows(
        reward=found.reward[kept],
        propensity=found.propensity[kept],
        proposed=found.proposed[kept],
        observation=np.asarray(found.observation, dtype=np.float32)[kept],
        mask=None if found.mask is None else found.mask[kept],
        unrewarded=int((found.usable & ~known).sum()),
        left_out=int((~found.usable).sum()),
    )


def arms(logged: pa.Table) -> list[str]:
    """The arms that decided, sorted."""
    return sorted(str(name) for name in compute.unique(logged.column("arm")).to_pylist() if name)


def allowed(logged: BanditRows, *, actions: int | None) -> Bool:
    """Which actions each row could take, (n, m): the log's masks, else all of `actions`. Raises InvalidInput without either."""
    if actions is not None:
        if logged.mask is not None and logged.mask.shape[1] != actions:
            raise InvalidInput(
                "--actions", given=actions, expected=f"{logged.mask.shape[1]}, which the log's masks have"
            )
        if logged.mask is None:
            return np.ones((len(logged.reward), actions), dtype=np.bool_)
    if logged.mask is None:
        raise InvalidInput(
            "how many actions there are",
            given="a log without action masks",
            expected="--actions N",
            cure="Say how many actions the endpoint can take.",
        )
    return logged.mask


def _of_arm(logged: pa.Table, *, arm: str) -> pa.Table:
    known = arms(logged)
    if arm not in known:
        raise NotFound("arm in the log", given=arm, cure=nearest(arm, known))
    return logged.filter(compute.equal(logged.column("arm"), arm))


def _check_single(logged: pa.Table) -> None:
    decisions = logged.group_by(["decision_id"]).aggregate([]).num_rows
    episodes = logged.group_by(["unit", "episode_id"]).aggregate([]).num_rows
    if episodes < decisions:
        raise NotBuilt(
            "off-policy evaluation of episodes",
            given=f"{decisions:,} decisions in {episodes:,} episodes",
            expected="one decision in each: a contextual bandit",
            cure="Compare policies in a canary, `rlaas rollout start ENDPOINT POLICY`, or on an env, `rlaas evaluate`.",
        )


def _exported(path: Path) -> pa.Table:
    try:
        read = pq.read_table(path, partitioning=None)
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidInput("log", given=str(path), expected="a Parquet file", cure=str(error).splitlines()[0]) from None
    missing = sorted((_NEEDED | _OF_THE_LOG) - set(read.column_names))
    if missing or not read.num_rows:
        raise InvalidInput(
            "log",
            given=f"{path}: {read.num_rows} rows of {', '.join(sorted(read.column_names)[:8])}",
            expected="rows with the columns that `rlaas log export` writes",
            cure=f"It lacks {', '.join(missing)}." if missing else "Log decisions first.",
        )
    return read


def _endpoint_at(path: Path) -> tuple[Path, str]:
    """(root, endpoint) of a decision log's folder, or of one endpoint's in its `decisions`."""
    if path.name.startswith("endpoint=") and path.parent.name == "decisions":
        return path.parent.parent, path.name.removeprefix("endpoint=")
    known = ArrowDecisionLog(str(path)).endpoints()
    if len(known) == 1:
        return path, known[0]
    raise InvalidInput(
        "folder of a log",
        given=str(path),
        expected="the log of one endpoint",
        cure=f"Name one: {', '.join(f'{path}/decisions/endpoint={name}' for name in known[:6])}."
        if known
        else "It needs decisions/endpoint=NAME/ below it.",
    )
