"""StreamParallelism's options: forms of action and observation, traces, modes, costs, and what is refused."""

import numpy as np
import pytest

from rlaas_ray.envs import philox, registry
from rlaas_ray.envs.stream import document, job, observation, queries, reward, traces
from rlaas_ray.envs.stream.problem import StreamStaticProblem
from rlaas_ray.errors import InvalidInput, NotBuilt, NotFound

ENV = "rlaas/StreamParallelism-v1"


def made(count=4, **config):
    return registry.make_vector(ENV, num_envs=count, seed=3, config=config)


def test_a_change_restarts_the_job_and_holding_does_not():
    worlds = made(2, query="wordcount", trace="constant")
    worlds.reset()
    _, _, _, _, info = worlds.step(np.asarray([[7, 7], [9, 19]]))
    assert info["objectives"][:, 4].tolist() == [0.0, 1.0]
    assert info["objectives"][1, 0] == 1.0  # nothing served for the ten seconds
    assert info["objectives"][1, 1] == pytest.approx(10.0)  # seconds of lag
    _, _, _, _, info = worlds.step(np.asarray([[7, 7], [9, 19]]))
    assert info["objectives"][:, 4].tolist() == [0.0, 0.0]
    assert info["objectives"][1, 0] == pytest.approx(0.0, abs=1e-9)


def test_state_lengthens_a_restart():
    heavy = {"name": "heavy", "operators": {"in": {"source_rate": 10.0}, "work": {"rate": 1.0, "state_gb": 4.0}}}
    flow = document.parse(heavy | {"edges": [{"from": "in", "to": "work"}]})
    assert job.StreamParallelism(flow, downtime=3.0).restart_s == 7.0


def test_delta_actions_step_and_stop_at_the_ends():
    worlds = made(3, action="delta", downtime=0.0)
    worlds.reset()
    assert worlds.single_action_space.nvec.tolist() == [5, 5]
    worlds.step(np.asarray([[4, 2], [0, 1], [2, 2]]))
    assert worlds.state()["count"].tolist() == [[10, 8], [6, 7], [8, 8]]
    for _ in range(15):
        worlds.step(np.asarray([[4, 0], [0, 4], [2, 2]]))
    assert worlds.state()["count"].tolist() == [[32, 1], [1, 32], [8, 8]]


def test_scale_actions_multiply_and_stop_at_the_ends():
    worlds = made(3, action="scale", downtime=0.0)
    worlds.reset()
    worlds.step(np.asarray([[4, 2], [0, 1], [3, 3]]))
    assert worlds.state()["count"].tolist() == [[16, 8], [4, 6], [10, 10]]
    for _ in range(6):
        worlds.step(np.asarray([[4, 0], [0, 3], [2, 2]]))
    assert worlds.state()["count"].tolist() == [[32, 1], [1, 28], [10, 10]]


def test_a_cluster_of_slots_masks_what_cannot_fit_and_grants_no_more():
    worlds = made(3, query="q3", max_total=12)
    seen, _ = worlds.reset()
    assert worlds.state()["count"].sum(axis=1).max() <= 12
    mask = seen["action_mask"].reshape(3, 3, 32)
    assert mask[0, 0].tolist() == [1] * 10 + [0] * 22
    worlds.step(np.asarray([[9, 9, 9], [3, 3, 3], [9, 0, 0]]))
    assert worlds.state()["count"].tolist() == [[4, 4, 4], [4, 4, 4], [10, 1, 1]]


def test_the_graph_shows_the_same_numbers_as_the_flat_observation():
    flat, graph = made(2, query="q3"), made(2, query="q3", graph_obs=True)
    flat.reset(), graph.reset()
    for action in ([1, 9, 0], [1, 9, 0], [1, 9, 0]):
        one, *_ = flat.step(np.tile(action, (2, 1)))
        two, *_ = graph.step(np.tile(action, (2, 1)))
    tunable = queries.QUERIES["q3"].tunable
    assert np.array_equal(two["nodes"][:, tunable, :6].reshape(2, -1), one[:, :18])
    assert np.array_equal(two["job"], one[:, 18:])
    assert two["mask"].tolist() == [[1.0] * 5 + [0.0] * 3] * 2
    assert two["nodes"][0, :, 8].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]  # sources
    assert two["nodes"][0, :, 9].tolist() == [0, 0, 0, 0, 1, 0, 0, 0]  # the sink
    assert np.argwhere(two["adjacency"][0]).tolist() == [[0, 3], [1, 2], [2, 3], [3, 4]]


def test_mixed_draws_every_query_and_plays_each_as_it_is_alone():
    worlds = made(64, query="mixed", trace="constant")
    worlds.reset()
    drawn = worlds.state()["query"]
    assert set(drawn.tolist()) == set(range(len(queries.QUERIES)))
    action = np.tile([11, 12, 0], (64, 1))
    for _ in range(5):
        _, reward_, *_ = worlds.step(action)
    for number, (name, flow) in enumerate(queries.QUERIES.items()):
        alone = made(1, query=name, trace="constant")
        alone.reset()
        for _ in range(5):
            _, wanted, *_ = alone.step(action[:1, : len(flow.tunable)])
        assert np.allclose(reward_[drawn == number], wanted[0], atol=1e-12)


def test_operators_are_told_by_name_for_agents():
    flow = queries.QUERIES["wordcount"]
    one = job.StreamParallelism(flow, trace="constant")
    streams = philox.streams(0, num_envs=2)
    state, _, _ = one.reset(streams)
    for _ in range(3):
        state, *_ = one.step(state, np.full((2, 2), 7), streams=streams)
    source, flatmap, count = observation.operators_info(flow, state, row=1)
    assert (source["name"], source["component_type"], source["selectivity"]) == ("source", "spout", 1.0)
    assert source["input_rate"] == pytest.approx(1e6 / 60)
    assert flatmap["processing_capability"] == pytest.approx(1e5 / 60)
    assert flatmap["selectivity"] == 20.0
    assert (count["instance_count"], count["resource_load"]) == (8, pytest.approx(1.0))
    assert flow.pairs == ((0, 1), (1, 2))


def test_the_diurnal_trace_is_its_formula_and_bursts_are_as_rare_as_said():
    flow = queries.QUERIES["q5"]
    streams = philox.streams(0, num_envs=400)
    path = traces.path(traces.trace("diurnal+burst", flow=flow), streams, steps=180)[:, :, 0] / 80_000.0
    assert path.shape == (400, 180)
    # Stationary noise of 0.03 / sqrt(1 - 0.81); bursts last ten steps and start every hundred.
    share = 0.1 * 0.01 / (0.01 + 0.1) / 0.1
    assert path.mean() == pytest.approx(0.7 * np.exp(0.03**2 / 0.19 / 2) * (1 + 0.5 * share), rel=0.02)
    assert 0.2 < path.min() < path.max() < 2.0
    steady = traces.path(traces.trace("constant", flow=flow), streams, steps=5)
    assert (steady == 80_000.0).all()


def test_a_trace_of_ones_own_is_played_step_by_step(tmp_path):
    file = tmp_path / "rates.csv"
    rows = [f"{step},{name},{100 * step + number}" for step in range(4) for number, name in enumerate(("a", "b"))]
    file.write_text("\n".join(["step,source,rate", *rows]), encoding="utf-8")
    operators = {"a": {"source_rate": 50}, "b": {"source_rate": 50}, "join": {"rate": 10}}
    flow = document.parse({"operators": operators, "edges": [{"from": "a", "to": "join"}, {"from": "b", "to": "join"}]})
    found = traces.path(traces.trace(str(file), flow=flow), philox.streams(1, num_envs=3), steps=8)
    start = (found[:, 0, 0] / 100).astype(int)
    wanted = (start[:, None] + np.arange(8)) % 4 * 100
    assert np.array_equal(found[:, :, 0], wanted)
    assert np.array_equal(found[:, :, 1], wanted + 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("step,rate\n", "header"),
        ("step,source,rate\n", "no rows"),
        ("step,source,rate\n0,bid,5\n", "bids"),
        ("step,source,rate\n0,bids,-5\n", "at least 0"),
        ("step,source,rate\n0,bids,nan\n", "finite"),
        ("step,source,rate\n1,bids,5\n", "gap"),
        ("step,source,rate\n0,bids,5\n0,bids,6\n", "one row for each"),
        ("step,source,rate\nx,bids,5\n", "whole step"),
    ],
)
def test_a_trace_with_a_mistake_is_refused_by_what_is_wrong(tmp_path, text, told):
    file = tmp_path / "rates.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput, match=told):
        made(trace=str(file))


def test_what_is_not_known_or_not_built_is_told():
    with pytest.raises(NotBuilt) as caught:
        made(backend="flink")
    assert "downtime=3" in caught.value.cure
    for config, told in (
        ({"trace": "burts"}, "burst"),
        ({"downtime": -1.0}, "downtime"),
        ({"skew": 2.0}, "skew"),
        ({"skew": {"windw": 0.1}}, "window"),
        ({"action": "level"}, "levels"),
        ({"max_total": 1}, "max_total"),
        ({"mode": "balance"}, "balanced"),
        ({"weights": {"shortfal": 1.0}}, "shortfall"),
        ({"speed": 3}, "speed"),
    ):
        with pytest.raises(InvalidInput) as refused:
            made(**config)
        assert told in f"{refused.value} {refused.value.cure}"
    with pytest.raises(NotFound, match=r"rates\.csv"):
        made(trace="rates.csv")
    with pytest.raises(NotBuilt, match="max_total"):
        made(query="mixed", max_total=9)
    worlds = made(2)
    worlds.reset()
    for action in (np.zeros((2, 3), int), np.full((2, 2), 32), np.full((2, 2), -1), np.zeros((2, 2))):
        with pytest.raises(InvalidInput, match="action of StreamParallelism"):
            worlds.step(action)


def test_the_reward_is_the_weighted_sum_of_what_info_tells():
    for mode, weight in reward.MODES.items():
        worlds = made(5, mode=mode)
        worlds.reset()
        rng = np.random.default_rng(0)
        for _ in range(12):
            action = rng.integers(32, size=(5, 2)) if rng.random() < 0.3 else worlds.state()["count"] - 1
            _, got, _, _, info = worlds.step(action)
            short, lag, late, used, changed = info["objectives"].T
            lag, late = np.minimum(lag / 60, 1), np.minimum(late / 5, 1)
            terms = (1 - short, -lag, -late, -used / 64, -changed)
            assert np.allclose(got, sum(w * term for w, term in zip(weight, terms, strict=True)), atol=1e-12)
            assert np.array_equal(info["cost"][:, 0], info["objectives"][:, 2] > 5.0)


def test_the_front_s_end_at_full_throughput_is_ten_and_twenty():
    problem = StreamStaticProblem(query="wordcount")
    grid = np.stack(np.meshgrid(np.arange(1, 33), np.arange(1, 33), indexing="ij"), axis=-1).reshape(-1, 2)
    found = problem.natural(grid.astype(np.float64))
    full = found[:, 0] == 0.0
    assert full.any()
    best = grid[full][found[full, 2].argmin()]
    assert best.tolist() == [10, 20]
    at = found[(grid == [10, 20]).all(axis=1)][0]
    dominated = (found <= at).all(axis=1) & (found < at).any(axis=1)
    assert not dominated.any()
    assert problem.anchors()["least that carries"].tolist() == [10.0, 20.0]
    with pytest.raises(InvalidInput, match="variables"):
        problem.natural(np.zeros((1, 2)))
