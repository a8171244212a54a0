"""Open Bandit's files as a decision log: every column, any block, and what is not as published is refused and leaves nothing."""

import csv
import itertools
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaas_ray.data import bandit_rows, open_bandit, schema, training_rows
from rlaas_ray.data.decision_log import ArrowDecisionLog
from rlaas_ray.errors import AlreadyExists, InvalidInput, NotBuilt, NotFound
from rlaas_ray.testing import open_bandit as published

RATES = np.array([0.1, 0.2, 0.3, 0.4])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, arm in enumerate(open_bandit.ARMS):
        published.write(tmp_path / "obd", arm=arm, campaign="men", rows=60, seed=seed, click_rates=RATES)
    return tmp_path / "obd"


def cells(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def left(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()] if root.exists() else []


def test_every_cell_is_in_the_log(folder: Path, tmp_path: Path) -> None:
    done = open_bandit.load(folder, root=tmp_path / "log")
    assert [(one.endpoint, one.arm, one.rows, one.items) for one in done] == [
        ("open-bandit-men", "random", 60, 4),
        ("open-bandit-men", "bts", 60, 4),
    ]
    joined = ArrowDecisionLog(str(tmp_path / "log")).joined("open-bandit-men")
    names = json.loads(pq.read_schema(done[0].path).metadata[b"rlaas.observation"])
    for arm in open_bandit.ARMS:
        logged = [row for row in joined.to_pylist() if row["arm"] == arm]
        told = cells(folder / arm / "men" / "men.csv")
        assert len(logged) == len(told)
        for row, cell in zip(logged, told, strict=True):
            assert row["time_us"] == pa.scalar(cell["timestamp"]).cast(pa.timestamp("us", tz="UTC")).value
            assert row["action"] == row["action_proposed"] == [float(cell["item_id"])]
            assert row["propensity"] == float(cell["propensity_score"])
            assert row["action_mask"] == [True] * 4
            assert [r["reward"] for r in row["rewards"]] == [float(cell["click"])]
            assert [r["done"] for r in row["rewards"]] == [True]
            assert row["decision_id"] == row["unit"] == row["episode_id"]
            assert (row["step"], row["fallback"], row["excluded"], row["shield_modified"]) == (0, None, None, False)
            seen = dict(zip(names, row["observation"], strict=True))
            for i in range(4):
                assert seen[f"user_feature_{i}={cell[f'user_feature_{i}']}"] == 1.0
                assert seen[f"user-item_affinity_{i}"] == pytest.approx(float(cell[f"user-item_affinity_{i}"]))
            assert seen[f"position={cell['position']}"] == 1.0
            assert sum(row["observation"]) == pytest.approx(
                5 + sum(float(cell[f"user-item_affinity_{i}"]) for i in range(4)), abs=1e-5
            )


def test_the_files_are_of_the_products_own_schema(folder: Path, tmp_path: Path) -> None:
    done = open_bandit.load(folder, root=tmp_path / "log")
    for one in done:
        assert pq.read_schema(one.path).equals(schema.decisions(one.observation))
        assert pq.read_schema(one.path).metadata[b"rlaas.version"] == schema.VERSION
        earned = tmp_path / "log" / "rewards" / one.path.relative_to(tmp_path / "log" / "decisions")
        assert pq.read_schema(earned).equals(schema.REWARDS)


def test_whatever_reads_a_log_reads_it(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "log"
    done = open_bandit.load(folder, root=root)
    log = ArrowDecisionLog(str(root))
    decisions, rewards, cut = log.read("open-bandit-men", after={})
    assert (len(decisions), len(rewards)) == (120, 120)
    assert len(log.read("open-bandit-men", after=cut)[0]) == 0
    assert log.find("ob-bts-men-000000007")["arm"] == "bts"
    log.export("open-bandit-men", to=tmp_path / "men.parquet")
    rows = training_rows.of_parquet(str(tmp_path / "men.parquet"))
    assert rows.observation.shape == (120, done[0].observation)
    assert rows.usable.all()
    assert rows.terminated.all()
    assert rows.reward.sum() == sum(one.clicks for one in done)
    assert rows.mask is not None
    assert rows.mask.shape == (120, 4)


def test_blocks_do_not_show(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_bandit.load(folder, root=tmp_path / "whole")
    monkeypatch.setattr(open_bandit, "_BLOCK_BYTES", 2000)
    told: list[float] = []
    open_bandit.load(folder, root=tmp_path / "blocks", told=lambda _words, fraction: told.append(fraction))
    assert len(told) > 10
    one, other = (ArrowDecisionLog(str(tmp_path / name)).joined("open-bandit-men") for name in ("whole", "blocks"))
    assert [row | {"arm_probability": 0} for row in one.to_pylist()] == [
        row | {"arm_probability": 0} for row in other.to_pylist()
    ]


def test_files_are_found_from_any_of_their_folders(folder: Path) -> None:
    published.write(folder, arm="bts", campaign="all", rows=5, seed=9, click_rates=RATES)
    for path, count in ((folder, 3), (folder / "bts", 2), (folder / "bts" / "men", 1), (folder / "bts/men/men.csv", 1)):
        assert len(open_bandit.find(path)) == count
    with pytest.raises(NotFound, match="Open Bandit files"):
        open_bandit.find(folder / "bts" / "women")
    with pytest.raises(NotFound):
        open_bandit.find(folder.parent)


def test_policies_of_a_campaign_share_their_layout(folder: Path, tmp_path: Path) -> None:
    path = folder / "bts" / "men" / "men.csv"
    path.write_text(path.read_text().replace(f"0{0:031x}", "a value that random never met"))
    widths = {one.observation for one in open_bandit.load(folder, root=tmp_path / "both")}
    alone = open_bandit.load(folder / "bts", root=tmp_path / "alone")[0].observation
    assert widths == {alone + 1}


def test_what_is_there_already_is_not_imported_over(folder: Path, tmp_path: Path) -> None:
    open_bandit.load(folder / "bts", root=tmp_path / "log")
    before = left(tmp_path / "log")
    with pytest.raises(AlreadyExists, match="open-bandit-men"):
        open_bandit.load(folder, root=tmp_path / "log")
    assert left(tmp_path / "log") == before


def changed(path: Path, *, row: int, **values: str) -> None:
    told = cells(path)
    told[row] |= values
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(told[0]))
        writer.writeheader()
        writer.writerows(told)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *itertools.product(["propensity_score"], ["0", "-0.1", "1.5", "nan", "inf", "", "often"]),
        *itertools.product(["item_id"], ["4", "-1", "1.5", ""]),
        *itertools.product(["click"], ["2", "-1", "yes", ""]),
        *itertools.product(["position"], ["0", "4", ""]),
        *itertools.product(["user-item_affinity_2"], ["nan", "inf", "", "much"]),
        *itertools.product(["timestamp"], ["", "yesterday"]),
    ],
)
def test_a_cell_that_is_not_as_published_is_refused_and_nothing_is_left(folder, tmp_path, name, value) -> None:
    changed(folder / "bts" / "men" / "men.csv", row=40, **{name: value})
    with pytest.raises(InvalidInput, match=r"men\.csv") as raised:
        open_bandit.load(folder, root=tmp_path / "log")
    assert "line 42" in raised.value.detail or "CSV conversion error" in raised.value.detail
    assert raised.value.expected
    assert left(tmp_path / "log") == []


def test_a_line_is_counted_over_all_blocks(folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(open_bandit, "_BLOCK_BYTES", 2000)
    changed(folder / "bts" / "men" / "men.csv", row=55, click="3")
    with pytest.raises(InvalidInput, match="3 in line 57"):
        open_bandit.load(folder, root=tmp_path / "log")
    assert left(tmp_path / "log") == []


def edited(path: Path, change) -> None:
    lines = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("\n".join(",".join(change(i, line)) for i, line in enumerate(lines)) + "\n")


def test_missing_foreign_and_double_columns_are_named(folder, tmp_path) -> None:
    path = folder / "random" / "men" / "men.csv"
    kept = path.read_text()
    for change, words in (
        (lambda _i, line: line[:-1], "lacks user-item_affinity_3"),
        (lambda i, line: [*line, "rating" if i == 0 else "5"], "Take out 'rating'"),
        (lambda i, line: [*line, "click" if i == 0 else "1"], "twice"),
        (lambda i, line: ["", *line[1:5], "score" if i == 0 else line[5], *line[6:]], "lacks propensity_score"),
    ):
        path.write_text(kept)
        edited(path, change)
        with pytest.raises(InvalidInput, match="columns of") as raised:
            open_bandit.load(folder, root=tmp_path / "log")
        assert words in raised.value.cure


def test_items_must_be_there_and_count_from_zero(folder, tmp_path) -> None:
    items = folder / "random" / "men" / "item_context.csv"
    kept = items.read_text()
    items.write_text(kept.replace("\n2,2,", "\n2,7,").replace("\r2,2,", "\r2,7,"))
    with pytest.raises(InvalidInput, match="item_id of"):
        open_bandit.load(folder, root=tmp_path / "log")
    items.write_text("id\n1\n")
    with pytest.raises(InvalidInput, match=r"item_context\.csv"):
        open_bandit.load(folder, root=tmp_path / "log")
    items.unlink()
    with pytest.raises(NotFound, match="file of items"):
        open_bandit.load(folder, root=tmp_path / "log")


@pytest.mark.parametrize("text", ["", "\n", "header only"])
def test_a_file_without_rows_is_refused(folder, tmp_path, text) -> None:
    path = folder / "random" / "men" / "men.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n" if text == "header only" else text)
    with pytest.raises(InvalidInput):
        open_bandit.load(folder, root=tmp_path / "log")
    assert left(tmp_path / "log") == []


def test_a_feature_that_is_no_category_is_refused(tmp_path) -> None:
    path = published.write(tmp_path, arm="bts", campaign="all", rows=1100, seed=0, click_rates=RATES[:2])
    edited(path, lambda i, line: line if i == 0 else [*line[:6], f"user {i}", *line[7:]])
    with pytest.raises(InvalidInput, match="user_feature_0"):
        open_bandit.load(tmp_path, root=tmp_path / "log")


@given(
    at=st.integers(0, 2_000),
    length=st.integers(0, 200),
    new=st.binary(max_size=40),
    which=st.sampled_from(["men", "item"]),
)
@settings(max_examples=40, deadline=None)
def test_broken_bytes_are_refused_or_still_make_sound_rows(at, length, new, which) -> None:
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        published.write(place / "obd", arm="bts", campaign="men", rows=8, seed=0, click_rates=RATES)
        path = place / "obd" / "bts" / "men" / ("men.csv" if which == "men" else "item_context.csv")
        whole = path.read_bytes()
        path.write_bytes(whole[:at] + new + whole[at + length :])
        try:
            done = open_bandit.load(place / "obd", root=place / "log")
        except (InvalidInput, NotFound):
            assert left(place / "log") == []
            return
        rows = bandit_rows.rows(ArrowDecisionLog(str(place / "log")).joined(done[0].endpoint))
        assert ((rows.propensity > 0) & (rows.propensity <= 1)).all()
        assert np.isfinite(rows.observation).all()
        assert set(rows.reward) <= {0.0, 1.0}


# --- rows for off-policy evaluation -----------------------------------------------------------------------------------


def test_rows_of_an_arm_are_its_own(folder, tmp_path) -> None:
    done = open_bandit.load(folder, root=tmp_path / "log")
    table = bandit_rows.table("open-bandit-men", root=str(tmp_path / "log"))
    assert bandit_rows.arms(table) == ["bts", "random"]
    rows = bandit_rows.rows(table, arm="random")
    assert rows.propensity.tolist() == [0.25] * 60
    assert rows.reward.sum() == done[0].clicks
    assert len(bandit_rows.rows(table).reward) == 120
    with pytest.raises(NotFound, match="arm in the log") as raised:
        bandit_rows.rows(table, arm="rndom")
    assert "'random'" in raised.value.cure


def test_a_log_is_found_by_file_folder_and_endpoint(folder, tmp_path) -> None:
    root = tmp_path / "log"
    open_bandit.load(folder, root=root)
    ArrowDecisionLog(str(root)).export("open-bandit-men", to=tmp_path / "men.parquet")
    ways = (
        "open-bandit-men",
        str(root),
        str(root / "decisions/endpoint=open-bandit-men"),
        str(tmp_path / "men.parquet"),
    )
    for way in ways:
        assert bandit_rows.table(way, root=str(root)).num_rows == 120
    shutil.copytree(root / "decisions/endpoint=open-bandit-men", root / "decisions/endpoint=other")
    with pytest.raises(InvalidInput, match="folder of a log") as raised:
        bandit_rows.table(str(root), root=str(root))
    assert "endpoint=other" in raised.value.cure
    for wrong in ("nobody", str(tmp_path / "none.parquet"), str(tmp_path / "nowhere/log")):
        with pytest.raises(NotFound):
            bandit_rows.table(wrong, root=str(root))
    with pytest.raises(InvalidInput, match="folder of a log"):
        bandit_rows.table(str(tmp_path), root=str(root))
    pq.write_table(pa.table({"reward": [1.0]}), tmp_path / "other.parquet")
    with pytest.raises(InvalidInput, match="log") as raised:
        bandit_rows.table(str(tmp_path / "other.parquet"), root=str(root))
    assert "propensity" in raised.value.cure
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(InvalidInput, match="log"):
        bandit_rows.table(str(tmp_path / "text.parquet"), root=str(root))


def replaced(table: pa.Table, **columns) -> pa.Table:
    for name, values in columns.items():
        index = table.schema.get_field_index(name)
        table = table.set_column(index, table.schema.field(name), pa.array(values, table.schema.field(name).type))
    return table


@pytest.fixture
def table(folder, tmp_path) -> pa.Table:
    open_bandit.load(folder / "bts", root=tmp_path / "log")
    return bandit_rows.table("open-bandit-men", root=str(tmp_path / "log"))


def test_fallbacks_are_left_out_and_open_rewards_counted(table) -> None:
    rewards = table.column("rewards").to_pylist()
    made = replaced(table, fallback=["timeout"] * 5 + [None] * 55, rewards=[*rewards[:50], *([[]] * 10)])
    rows = bandit_rows.rows(made)
    assert (len(rows.reward), rows.unrewarded, rows.left_out) == (45, 10, 5)
    with pytest.raises(InvalidInput, match="0 with a reward"):
        bandit_rows.rows(replaced(table, rewards=[[]] * 60))


def test_episodes_of_several_steps_are_refused(table) -> None:
    with pytest.raises(NotBuilt, match="30 episodes"):
        bandit_rows.rows(
            replaced(table, unit=["u"] * 60, episode_id=[f"e{i // 2}" for i in range(60)], step=[0, 1] * 30)
        )


def test_without_masks_the_number_of_actions_must_be_told(table) -> None:
    rows = bandit_rows.rows(replaced(table, action_mask=[None] * 60))
    assert rows.mask is None
    assert bandit_rows.allowed(rows, actions=4).shape == (60, 4)
    with pytest.raises(InvalidInput, match="how many actions"):
        bandit_rows.allowed(rows, actions=None)
    assert bandit_rows.allowed(bandit_rows.rows(table), actions=None).shape == (60, 4)
    with pytest.raises(InvalidInput, match="--actions"):
        bandit_rows.allowed(bandit_rows.rows(table), actions=5)
