"""Open Bandit's published files as rows of the decision log, so that whatever reads a log reads them.

Called by `rlaas data import`. Streams: of a file of any size a few blocks are in memory. Never downloads, and never guesses: a
file that is not as published is refused with its line. Source of the format: Saito et al. 2021 (arXiv 2008.07146), section 3.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import compute
from pyarrow import csv as arrow_csv

from rlaas_ray.data import schema
from rlaas_ray.errors import AlreadyExists, InvalidInput, NotFound
from rlaas_ray.specs.arrays import F32, Bool

# As the publisher states it in the data set's own documents; nobody here has checked the rights.
ATTRIBUTION = (
    "Open Bandit Dataset by ZOZO, Inc., CC BY 4.0 (the publisher's statement); Saito et al. 2021, arXiv:2008.07146"
)
ARMS = ("random", "bts")
CAMPAIGNS = ("all", "men", "women")
POSITIONS = 3
_USER = tuple(f"user_feature_{i}" for i in range(4))
_LOGGED = ("timestamp", "item_id", "position", "click", "propensity_score")
_AFFINITY = "user-item_affinity_"
_ITEMS = "item_context.csv"
_BLOCK_BYTES = 8 << 20
_MOST_VALUES = 1_000  # of one hashed feature: the published ones have ten or fewer

Told = Callable[[str, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One published file: what the policy `arm` logged on `campaign`."""

    arm: str
    campaign: str
    path: Path

    @property
    def items_path(self) -> Path:
        """The file of items beside it."""
        return self.path.with_name(_ITEMS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of one file."""

    endpoint: str
    arm: str
    rows: int
    clicks: int
    items: int
    observation: int  # entries
    path: Path  # the Parquet file of decisions


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """What an observation holds: one-hot user features, affinities to the items, one-hot position; and how many items."""

    values: tuple[tuple[str, ...], ...]  # of each user feature, sorted
    items: int

    @property
    def names(self) -> list[str]:
        users = [f"{name}={value}" for name, known in zip(_USER, self.values, strict=True) for value in known]
        return [*users, *_affinities(self.items), *(f"position={i + 1}" for i in range(POSITIONS))]


def find(path: Path) -> list[Source]:
    """The published files at `path`: the data set's folder, a policy's, a campaign's, or one CSV file."""
    given = path.absolute()
    for base in (given, *list(given.parents)[:3]):
        every = [Source(arm=a, campaign=c, path=base / a / c / f"{c}.csv") for c in CAMPAIGNS for a in ARMS]
        found = [source for source in every if source.path.is_file() and source.path.is_relative_to(given)]
        if found:
            return found
    raise NotFound(
        "Open Bandit files",
        given=str(path),
        expected="{random,bts}/{all,men,women}/{all,men,women}.csv, each with item_context.csv beside it",
        cure="Unpack the published archive and name its folder, or one of the folders in it.",
    )


def load(path: Path, *, root: Path, told: Told = lambda _words, _fraction: None) -> list[Imported]:
    """Write the files at `path` below the decision log's `root`, as endpoint `open-bandit-CAMPAIGN` with an arm for each policy.

    `told(words, fraction)` hears of progress. Policies of one campaign that are imported together share a layout of the
    observation. Raises NotFound, InvalidInput, AlreadyExists; a campaign that fails leaves nothing behind.
    """
    sources = find(path)
    campaigns = list(dict.fromkeys(source.campaign for source in sources))
    for campaign in campaigns:
        _must_be_new(root, endpoint=f"open-bandit-{campaign}")
    done: list[Imported] = []
    for campaign in campaigns:
        done += _campaign([source for source in sources if source.campaign == campaign], root=root, told=told)
    return done


def _must_be_new(root: Path, *, endpoint: str) -> None:
    folder = root / "decisions" / f"endpoint={endpoint}"
    if folder.exists():
        raise AlreadyExists(
            "imported log",
            given=str(folder),
            expected="a log that does not hold this campaign",
            cure="Import to another folder with --to, or delete this one and the same below `rewards/` first.",
        )


def _campaign(sources: Sequence[Source], *, root: Path, told: Told) -> list[Imported]:
    layout = _layout(sources, told=told)
    written: list[Path] = []
    try:
        imported = [_convert(source, layout=layout, root=root, written=written, told=told) for source in sources]
        for part in written:  # both appear whole or not at all
            part.rename(part.with_suffix(""))
    finally:
        for part in written:
            part.unlink(missing_ok=True)
            for folder in (part.parent, part.parent.parent):
                if not any(folder.iterdir()):
                    folder.rmdir()
    return imported


def _convert(source: Source, *, layout: _Layout, root: Path, written: list[Path], told: Told) -> Imported:
    nonce, endpoint = f"ob-{source.arm}-{source.campaign}", f"open-bandit-{source.campaign}"
    width = len(layout.names)
    form = schema.decisions(width).with_metadata(
        {
            **schema.decisions(width).metadata,
            b"rlaas.observation": json.dumps(layout.names).encode(),
            b"rlaas.attribution": ATTRIBUTION.encode(),
        }
    )
    rows, clicks, target = 0, 0, Path()
    with ExitStack() as open_files:
        writers: list[pq.ParquetWriter] = []
        for batch in _blocks(source, items=layout.items, told=told):
            decided = _decisions(batch, source=source, layout=layout, first=rows, form=form)
            earned = _rewards(batch, decision_id=decided.column("decision_id"))
            if not writers:
                first_us = decided.column("time_us")[0].as_py()
                paths = [_part(root, kind, endpoint=endpoint, nonce=nonce, time_us=first_us) for kind in _KINDS]
                written += paths
                target = paths[0].with_suffix("")
                writers = [
                    open_files.enter_context(pq.ParquetWriter(path, one, compression="zstd"))
                    for path, one in zip(paths, (form, schema.REWARDS), strict=True)
                ]
            writers[0].write_batch(decided)
            writers[1].write_batch(earned)
            rows += batch.num_rows
            clicks += int(compute.sum(batch.column("click")).as_py())
    if not rows:
        raise InvalidInput(str(source.path), given="no rows", expected="one row or more below the header")
    return Imported(
        endpoint=endpoint,
        arm=source.arm,
        rows=rows,
        clicks=clicks,
        items=layout.items,
        observation=width,
        path=target,
    )


_KINDS: tuple[schema.Kind, schema.Kind] = ("decisions", "rewards")


def _part(root: Path, kind: schema.Kind, *, endpoint: str, nonce: str, time_us: int) -> Path:
    """Where a file is written before it is renamed: no reader of the log takes it for one."""
    folder = root / schema.folder(kind, endpoint=endpoint, time_us=time_us)
    folder.mkdir(parents=True, exist_ok=True)
    stem = schema.file_name(nonce=nonce, sequence=1).removesuffix(schema.SUFFIX_OPEN)
    return folder / f"{stem}{schema.SUFFIX_SEALED}.part"


# --- what a file holds ------------------------------------------------------------------------------------------------


def _layout(sources: Sequence[Source], *, told: Told) -> _Layout:
    items = {_items(source.items_path) for source in sources}
    if len(items) != 1:
        raise InvalidInput(
            f"items of campaign {sources[0].campaign!r}",
            given=f"{sorted(items)} in its {_ITEMS} files",
            expected="the same number for every policy",
            cure="Import the policies one by one, each to its own folder with --to.",
        )
    seen: list[set[str]] = [set() for _ in _USER]
    for source in sources:
        told(f"reading {source.arm}/{source.campaign}", 0.0)
        for batch in _read(source.path, items=max(items), only=_USER):
            for known, name in zip(seen, _USER, strict=True):
                known |= set(compute.unique(batch.column(name)).to_pylist())
                if len(known) > _MOST_VALUES:
                    raise InvalidInput(
                        f"{name} of {source.path}",
                        given=f"more than {_MOST_VALUES} values",
                        expected="a few hashed values: the published features have ten or fewer",
                        cure="Import the published file as it is.",
                    )
    return _Layout(values=tuple(tuple(sorted(known)) for known in seen), items=max(items))


def _items(path: Path) -> int:
    """How many items a campaign has; their ids count from 0."""
    if not path.is_file():
        raise NotFound("file of items", given=str(path), expected=_ITEMS, cure="It is published beside the CSV file.")
    try:
        table = arrow_csv.read_csv(
            path, convert_options=arrow_csv.ConvertOptions(include_columns=["item_id"], column_types=_TYPES)
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise _unreadable(path, error) from None
    ids = sorted(-1 if value is None else value for value in table.column("item_id").to_pylist())
    if not ids or ids != list(range(len(ids))):
        raise InvalidInput(f"item_id of {path}", given=ids[:8], expected="0, 1, 2, ... with no gap")
    return len(ids)


def _affinities(items: int) -> list[str]:
    return [f"{_AFFINITY}{i}" for i in range(items)]


_TYPES = {
    "timestamp": pa.timestamp("us", tz="UTC"),
    "item_id": pa.int64(),
    "position": pa.int64(),
    "click": pa.int64(),
    "propensity_score": pa.float64(),
    **dict.fromkeys(_USER, pa.string()),
}


def _check_header(path: Path, *, items: int) -> None:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header = next(csv.reader(file), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, error) from None
    expected = [*_LOGGED, *_USER, *_affinities(items)]
    named = [name for i, name in enumerate(header) if i or name]  # the published files begin with an unnamed index
    missing = [name for name in expected if name not in named]
    foreign = [name for name in named if name not in expected]
    if not missing and not foreign and len(named) == len(expected):
        return
    if missing:
        cure = f"It lacks {', '.join(missing[:4])}{', ...' if len(missing) > 4 else ''}."
    elif foreign:
        cure = f"Take out {', '.join(map(repr, foreign[:4]))}{', ...' if len(foreign) > 4 else ''}."
    else:
        cure = "A column stands there twice."
    raise InvalidInput(
        f"columns of {path}",
        given=named[:12],
        expected=f"{', '.join(_LOGGED)}, {_USER[0]}..3, {_AFFINITY}0..{items - 1} ({items} items in {_ITEMS})",
        cure=cure,
    )


def _read(
    path: Path, *, items: int, only: Sequence[str] = (), told: Callable[[float], None] = lambda _fraction: None
) -> Iterator[pa.RecordBatch]:
    """Batches of a file's columns (`only` these) in their types. Raises InvalidInput where a cell is not of its type."""
    _check_header(path, items=items)
    names = list(only) or [*_LOGGED, *_USER, *_affinities(items)]
    types = {name: _TYPES.get(name, pa.float32()) for name in names}
    options = arrow_csv.ConvertOptions(include_columns=names, column_types=types, strings_can_be_null=False)
    size = max(path.stat().st_size, 1)
    with path.open("rb") as file:
        try:
            reader = arrow_csv.open_csv(
                file, read_options=arrow_csv.ReadOptions(block_size=_BLOCK_BYTES), convert_options=options
            )
            for number, batch in enumerate(reader, start=1):  # the file's own position runs ahead
                told(min(number * _BLOCK_BYTES / size, 1.0))
                yield batch
        except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
            raise _unreadable(path, error) from None


def _blocks(source: Source, *, items: int, told: Told) -> Iterator[pa.RecordBatch]:
    """Checked batches of all columns."""
    words = f"importing {source.arm}/{source.campaign}"
    line = 2  # the header is line 1
    for batch in _read(source.path, items=items, told=lambda fraction: told(words, fraction)):
        _check(batch, path=source.path, items=items, line=line)
        line += batch.num_rows
        if batch.num_rows:
            yield batch


def _check(batch: pa.RecordBatch, *, path: Path, items: int, line: int) -> None:
    for name in batch.schema.names:
        if batch.column(name).null_count:
            row = int(np.flatnonzero(batch.column(name).is_null().to_numpy(zero_copy_only=False))[0])
            raise InvalidInput(f"{name} of {path}", given=f"nothing in line {line + row}", expected="a value")
    propensity = batch.column("propensity_score").to_numpy()
    item, click, position = (batch.column(name).to_numpy() for name in ("item_id", "click", "position"))
    rules: list[tuple[str, Any, Bool, str]] = [
        ("item_id", item, (item >= 0) & (item < items), f"one of the {items} items of {_ITEMS}, 0 to {items - 1}"),
        ("position", position, (position >= 1) & (position <= POSITIONS), f"1 to {POSITIONS}"),
        ("click", click, (click == 0) | (click == 1), "0 or 1"),
        ("propensity_score", propensity, (propensity > 0) & (propensity <= 1), "a probability above 0, at most 1"),
    ]
    for name in _affinities(items):
        values = batch.column(name).to_numpy()
        rules.append((name, values, np.isfinite(values), "a finite number"))
    for name, values, right, expected in rules:
        if not right.all():
            row = int(np.flatnonzero(~right)[0])
            raise InvalidInput(
                f"{name} of {path}",
                given=f"{values[row]!s} in line {line + row} ({int((~right).sum())} such rows in its block)",
                expected=expected,
                cure="Import the published file as it is; a row without its probability cannot be weighed.",
            )


def _unreadable(path: Path, error: Exception) -> InvalidInput:
    text = str(error).splitlines()
    return InvalidInput(
        str(path), given=(text or ["?"])[0][:160], expected="the published CSV file", cure="Fetch or unpack it again."
    )


# --- rows of the log --------------------------------------------------------------------------------------------------


def _decisions(
    batch: pa.RecordBatch, *, source: Source, layout: _Layout, first: int, form: pa.Schema
) -> pa.RecordBatch:
    """One decision a row. What Open Bandit does not tell is null, or NaN in a number that the log always has."""
    n = batch.num_rows
    order = compute.utf8_lpad(pa.array(np.arange(first, first + n)).cast(pa.string()), width=9, padding="0")
    ids = compute.binary_join_element_wise(f"ob-{source.arm}-{source.campaign}", order, "-")
    every = np.arange(n + 1, dtype=np.int32)
    item = pa.ListArray.from_arrays(pa.array(every), batch.column("item_id").cast(pa.float64()))
    offered = pa.ListArray.from_arrays(pa.array(every * layout.items), pa.array(np.ones(n * layout.items, np.bool_)))
    seen = pa.array(_observations(batch, layout=layout).ravel())
    told: dict[str, Any] = {
        "decision_id": ids,
        "endpoint": pa.repeat(f"open-bandit-{source.campaign}", n),
        "epoch": pa.repeat(pa.scalar(0, pa.int64()), n),
        "time_us": batch.column("timestamp").cast(pa.int64()),
        "unit": ids,
        "episode_id": ids,
        "step": pa.repeat(pa.scalar(0, pa.int32()), n),
        "arm": pa.repeat(source.arm, n),
        "version": pa.repeat(source.arm, n),
        "observation": pa.FixedSizeListArray.from_arrays(seen, len(layout.names)),
        "action_mask": offered,
        "action_proposed": item,
        "action": item,
        "propensity": batch.column("propensity_score"),
        "arm_probability": pa.repeat(float("nan"), n),
        "shield_modified": pa.repeat(pa.scalar(value=False), n),
    }
    columns = [told[field.name] if field.name in told else pa.nulls(n, field.type) for field in form]
    return pa.RecordBatch.from_arrays(columns, schema=form)


def _rewards(batch: pa.RecordBatch, *, decision_id: pa.Array) -> pa.RecordBatch:
    n = batch.num_rows
    columns = [
        decision_id,
        pa.repeat(pa.scalar(0, pa.int32()), n),
        batch.column("click").cast(pa.float64()),
        pa.repeat(pa.scalar(value=True), n),
        pa.repeat(pa.scalar(value=False), n),
        batch.column("timestamp").cast(pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema.REWARDS)


def _observations(batch: pa.RecordBatch, *, layout: _Layout) -> F32:
    """(n, d) by the layout."""
    parts = []
    for name, values in zip(_USER, layout.values, strict=True):
        code = compute.index_in(batch.column(name), value_set=pa.array(values, pa.string())).to_numpy()
        parts.append(np.eye(len(values), dtype=np.float32)[code])
    parts.append(np.stack([batch.column(name).to_numpy() for name in _affinities(layout.items)], axis=1))
    parts.append(np.eye(POSITIONS, dtype=np.float32)[batch.column("position").to_numpy() - 1])
    return np.concatenate(parts, axis=1, dtype=np.float32)
