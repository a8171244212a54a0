"""The lines of the contract for searches, against a real API: fronts while they grow, a stop, a start from an earlier front."""

import pytest

from rlaas_ray.cli import quickstart_ground as ground

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def client():
    with ground.home() as home, ground.fast(home) as made, made:
        yield made


def test_the_two_lines_of_the_contract(client) -> None:
    optimization = client.optimization.start(
        problem_type="5g", algorithm="nsga3", mode="emergency", population_size=100, generations=60
    )
    fronts = [event.data for event in optimization if event.kind == "front"]
    result = optimization.wait_for_completion(timeout_s=120)
    assert fronts[-1]["generation"] == 60
    assert all(0 < len(one["front"]) <= 500 for one in fronts)
    assert result.hypervolume >= fronts[-1]["hypervolume"] >= fronts[0]["hypervolume"]
    assert result.best_solution["objectives"] == result.raw["chosen"]["objectives"]
    assert "all 60 generations are done" in result.summary
    trace = optimization.metrics()["hypervolume"]
    assert trace[-1] == result.raw["hypervolume_trace"][-1]
    assert trace == sorted(trace)

    weights = {"ctr": 0.4, "cvr": 0.3, "diversity": 0.3}
    other = client.optimization.start(
        problem_type="recommendation", algorithm="moead", mode="revenue_focused", weights=weights, generations=40
    )
    found = other.wait_for_completion(timeout_s=120)
    assert found.raw["algorithm"] == "moead"
    assert found.raw["weights"] == pytest.approx(weights)
    assert len(found.front) > 50


def test_a_search_is_stopped_and_another_begins_where_it_ended(client) -> None:
    search = client.optimization.start(problem_type="5g", generations=1_000_000, problem_config={"n_prb": 12})
    for event in search:
        if event.kind == "front" and event.data["generation"] >= 20:
            assert search.front()["front"]
            search.stop()
            break
    ended = search.ended(timeout_s=60)
    assert (ended["state"], ended["result"]["ended_by"]) == ("stopped", "stop")
    told = {"problem_type": "5g", "generations": 1, "problem_config": {"n_prb": 12}}
    warm = client.optimization.start(**told, warm_start={"run": search.id}).wait_for_completion(timeout_s=60)
    cold = client.optimization.start(**told).wait_for_completion(timeout_s=60)
    assert warm.raw["hypervolume_trace"][0] > cold.raw["hypervolume_trace"][0]
