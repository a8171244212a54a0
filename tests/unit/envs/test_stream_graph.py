"""A user's own dataflow: what a YAML document may say, and what each mistake is told."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaas_ray.envs import registry
from rlaas_ray.envs.stream import document, observation
from rlaas_ray.errors import InvalidInput, NotFound, RlaasError, UnknownField

EXAMPLE = Path(__file__).parents[3] / "examples" / "dag.yaml"


def a_document(**changes):
    made = {
        "name": "orders",
        "operators": {
            "orders": {"source_rate": 1000},
            "parse": {"rate": 200, "sigma": 0.03},
            "store": {"rate": 500},
        },
        "edges": [{"from": "orders", "to": "parse"}, {"from": "parse", "to": "store", "selectivity": 2.0}],
    }
    return made | changes


def test_a_document_becomes_the_dataflow_it_says():
    flow = document.parse(a_document(max_parallelism=16))
    assert [one.name for one in flow.operators] == ["orders", "parse", "store"]
    assert flow.inflow == (1000.0, 1000.0, 2000.0)
    assert flow.peak() == (6, 4)
    assert flow.max_parallelism == 16


WRONG = {
    "unknown operator": ({"edges": [{"from": "orders", "to": "prase"}]}, "parse"),
    "cycle": (
        {
            "edges": [
                {"from": "orders", "to": "parse"},
                {"from": "parse", "to": "store"},
                {"from": "store", "to": "parse"},
            ]
        },
        "cycle",
    ),
    "itself": ({"edges": [{"from": "orders", "to": "parse"}, {"from": "parse", "to": "parse"}]}, "cycle"),
    "no source": (
        {"operators": {"a": {"rate": 1}, "b": {"rate": 1}}, "edges": [{"from": "a", "to": "b"}]},
        "source_rate",
    ),
    "negative rate": ({"operators": {"orders": {"source_rate": -1}}}, "greater than 0"),
    "both rates": ({"operators": {"orders": {"source_rate": 1, "rate": 1}}}, "either"),
    "no rate": ({"operators": {"orders": {}}}, "either"),
    "not a number": ({"operators": {"orders": {"source_rate": float("nan")}}}, "finite"),
    "negative selectivity": ({"edges": [{"from": "orders", "to": "parse", "selectivity": -2}]}, "greater than 0"),
    "loose end": ({"edges": [{"from": "orders", "to": "parse"}]}, "edge into it"),
    "into a source": (
        {"edges": [*a_document()["edges"], {"from": "parse", "to": "orders"}]},
        "no edge into a source",
    ),
    "an edge twice": ({"edges": [*a_document()["edges"], {"from": "orders", "to": "parse"}]}, "an edge once"),
    "one instance": ({"max_parallelism": 1}, "greater than or equal to 2"),
    "one operator": ({"operators": {"orders": {"source_rate": 1}}, "edges": []}, "operators"),
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_what_is_wrong_is_named_with_what_was_expected(name):
    changes, told = WRONG[name]
    with pytest.raises(InvalidInput) as caught:
        document.parse(a_document(**changes))
    assert told in f"{caught.value} {caught.value.cure}"


def test_an_unknown_field_names_the_nearest_known_one():
    with pytest.raises(UnknownField) as caught:
        document.parse(a_document(operators={"orders": {"source_rates": 5}}))
    assert "source_rate" in caught.value.cure


def test_a_query_that_is_none_and_a_path_that_leads_nowhere_are_told(tmp_path):
    with pytest.raises(InvalidInput, match="query") as caught:
        registry.make("rlaas/StreamParallelism-v1", config={"query": "q55"})
    assert "q5" in caught.value.cure
    with pytest.raises(NotFound, match="nowhere"):
        document.flow_of("dag:nowhere.yaml")
    (tmp_path / "broken.yaml").write_text("{", encoding="utf-8")
    with pytest.raises(InvalidInput, match="YAML"):
        document.flow_of(f"dag:{tmp_path / 'broken.yaml'}")


def test_the_example_is_an_environment_whose_spaces_fit_its_operators():
    made = registry.make_vector(
        "rlaas/StreamParallelism-v1", num_envs=3, seed=0, config={"query": f"dag:{EXAMPLE}", "graph_obs": True}
    )
    flow = document.flow_of(f"dag:{EXAMPLE}")
    seen, _ = made.reset()
    assert made.single_action_space.shape == (len(flow.tunable),)
    assert seen["nodes"].shape == (3, 8, len(observation.NODE))
    assert seen["mask"].sum() == 3 * len(flow.operators)
    assert seen["adjacency"].sum() == 3 * len(flow.edges)
    seen, reward, *_ = made.step(np.tile(np.asarray(flow.peak()) - 1, (3, 1)))
    assert np.isfinite(reward).all()


NAMES = st.sampled_from(["a", "b", "c", "d"])
NUMBERS = st.one_of(st.floats(-2, 100), st.none(), st.text(max_size=2), st.booleans())
OPERATORS = st.dictionaries(
    NAMES, st.dictionaries(st.sampled_from(["source_rate", "rate", "sigma", "kappa", "x"]), NUMBERS), max_size=4
)
EDGES = st.lists(st.fixed_dictionaries({"from": NAMES, "to": NAMES}, optional={"selectivity": NUMBERS}), max_size=5)


@settings(max_examples=60, deadline=None)
@given(operators=OPERATORS, edges=EDGES)
def test_any_document_gives_a_sound_dataflow_or_one_of_our_errors(operators, edges):
    try:
        flow = document.parse(yaml.safe_load(yaml.safe_dump({"operators": operators, "edges": edges})))
    except RlaasError:
        return
    assert np.isfinite(flow.inflow).all()
    assert min(flow.inflow) > 0
    assert len(flow.order) == len(flow.operators)
