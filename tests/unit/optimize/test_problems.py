"""Problems by name: their modes and weights, and the two lines that the SDK's page shows."""

import pytest

from rlaas_ray.errors import InvalidInput, NotFound
from rlaas_ray.optimize import problems, search
from rlaas_ray.specs.optimize import OptimizeSpec
from rlaas_ray.testing.clock import ManualClock


def test_5g_in_an_emergency_by_nsga3() -> None:
    spec = OptimizeSpec(
        problem="5g",
        algorithm="nsga3",
        mode="emergency",
        population_size=20,
        generations=3,
        problem_config={"n_prb": 6},
    )
    result = search.run(spec, clock=ManualClock())
    assert (result["algorithm"], result["mode"]) == ("nsga3", "emergency")
    assert result["weights"] == {"latency_p95": 0.4, "throughput": 0.15, "energy": 0.05, "satisfied": 0.4}
    assert set(result["best_solution"]["objectives"]) == set(result["weights"])
    assert result["front"]
    assert 0 < result["hypervolume"] < 1


def test_recommendation_for_revenue_by_moead_with_weights_of_ones_own() -> None:
    spec = OptimizeSpec(
        problem="recommendation",
        algorithm="moead",
        mode="revenue_focused",
        weights={"ctr": 0.4, "cvr": 0.3, "diversity": 0.3},
        population_size=15,
        generations=2,
    )
    result = search.run(spec, clock=ManualClock())
    assert result["weights"] == pytest.approx({"ctr": 0.4, "cvr": 0.3, "diversity": 0.3})
    assert result["algorithm"] == "moead"
    assert {"click-greedy", "both-greedy"} <= set(result["anchors"])


@pytest.mark.parametrize(
    ("name", "mode", "weight"),
    [
        ("stream_parallelism", "normal", [1.0, 0.5, 0.5]),
        ("stream_parallelism", "cost", [1.0, 0.25, 1.5]),
        ("edge_placement", "cost", [0.5, 1.0, 0.1]),
        ("recommendation", "discovery", [0.2, 0.1, 0.7]),
        ("5g_tiny", "revenue", [0.15, 0.55, 0.10, 0.20]),
    ],
)
def test_a_mode_is_named_weights(name: str, mode: str, weight: list[float]) -> None:
    assert problems.resolve(OptimizeSpec(problem=name, mode=mode)).weight.tolist() == weight


def test_weights_left_out_are_zero() -> None:
    subject = problems.resolve(OptimizeSpec(problem="edge_placement", weights={"spend": 2.0}))
    assert subject.weight.tolist() == [0.0, 2.0, 0.0]


def test_a_mode_of_a_problem_without_modes_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no modes"):
        problems.resolve(OptimizeSpec(problem="zdt1", mode="emergency"))


@pytest.mark.parametrize(
    ("name", "config"),
    [("5g_tiny", {"step": 8}), ("edge_placement", {"size": "small"}), ("5g_tiny", {"mode": "x"})],
)
def test_what_a_problem_cannot_be_is_refused(name: str, config: dict) -> None:
    with pytest.raises(InvalidInput):
        problems.KNOWN[name](**config)


def test_a_name_nearly_right_is_helped() -> None:
    with pytest.raises(NotFound) as caught:
        problems.resolve(OptimizeSpec(problem="dtlz"))
    assert "dtlz" in str(caught.value.cure)
