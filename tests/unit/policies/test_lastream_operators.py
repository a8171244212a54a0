"""What an agent is told of a dataflow: either vocabulary, and errors that name the operator and the key."""

from dataclasses import dataclass

import numpy as np
import pytest

from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import ds2
from rlaas_ray.policies.lastream import operators

CHAIN = [(0, 1), (1, 2)]
DICTS = [
    {"name": "source", "component_type": "spout", "instance_count": 1, "input_rate": 10.0},
    {"name": "split", "processing_capability": 2.0, "resource_load": 0.5, "selectivity": 20.0, "instance_count": 3},
    {"name": "count", "processing_capability": 40.0, "resource_load": 0.25, "colour": "unknown keys are left alone"},
]


@dataclass
class Attributes:
    operator_name: str
    processing_capacity: float
    input_rate: float
    cpu_usage: float
    memory_usage: float = 0.0


def parsed(info, edges=CHAIN, **more):
    return operators.parse(info, edges, max_parallelism=8, **more)


def test_both_vocabularies_say_the_same():
    dicts = [
        {"name": "a", "processing_capability": 2.0, "input_rate": 5.0, "resource_load": 0.5},
        {"name": "b", "processing_capability": 1.0, "input_rate": 5.0, "resource_load": 0.75},
    ]
    objects = [Attributes("a", 2.0, 5.0, 0.5), Attributes("b", 1.0, 5.0, 0.75)]
    one, other = parsed(dicts, [(0, 1)]), parsed(objects, [(0, 1)])
    assert one.names == other.names == ("a", "b")
    np.testing.assert_array_equal(one.features, other.features)
    np.testing.assert_array_equal(one.wanted, other.wanted)


def test_demand_and_the_ds2_scheme_follow_from_rates_and_selectivity():
    told = parsed(DICTS)
    np.testing.assert_allclose(told.demand[0, 1:], [5.0, 5.0])
    assert told.wanted.tolist() == [[1, 5, 5]]
    assert told.current.tolist() == [[1, 3, 1]]
    assert told.fixed.tolist() == [True, False, False]


def test_the_ds2_scheme_is_the_rule_of_ds2():
    told = parsed(DICTS)
    rule = ds2.parallelism(
        edges=CHAIN,
        offered=np.array([[10.0, 0.0, 0.0]]),
        processed=np.array([[10.0, 6.0, 40.0]]),
        output=np.array([[10.0, 120.0]]),
        instances=np.array([[1, 3, 1]]),
    )
    assert told.wanted.tolist() == rule.tolist()


def test_an_operator_without_inputs_that_may_be_scaled_is_scaled():
    told = parsed([{"name": "a", "processing_capability": 2.0, "input_rate": 5.0}], [])
    assert told.wanted.tolist() == [[3]]


def test_outputs_may_differ():
    info = [{"name": "a", "component_type": "spout", "input_rate": 6.0}, {"name": "b"}, {"name": "c"}]
    quantities = {"input_rate": np.array([[6.0, 0, 0]]), "processing_capability": np.array([[0.0, 1, 1]])}
    told = operators.describe(
        names=("a", "b", "c"),
        edges=((0, 1), (0, 2)),
        fixed=np.array([True, False, False]),
        current=np.ones((1, 3), dtype=np.int64),
        quantities=quantities,
        max_parallelism=8,
        ways=[0.5, 1.0],
    )
    assert told.wanted.tolist() == [[1, 3, 6]]
    assert parsed(info, [(0, 1), (0, 2)]).demand[0, 1] != told.demand[0, 1]


def test_the_scheme_in_force_is_handed_in_where_operators_do_not_tell():
    assert parsed([{"name": "a"}, {"name": "b", "instance_count": 2}], [(0, 1)], current=[5, 7]).current.tolist() == [
        [5, 2]
    ]


def test_a_fixed_count_stays():
    told = parsed([{"name": "a", "fixed": 4, "processing_capability": 1.0, "input_rate": 8.0}], [])
    assert told.wanted.tolist() == told.current.tolist() == [[4]]


@pytest.mark.parametrize(
    ("key", "value"),
    [("input_rate", float("nan")), ("processing_capacity", float("inf")), ("cpu_usage", "high"), ("selectivity", True)],
)
def test_what_is_no_finite_number_is_a_value_error_naming_operator_and_key(key, value):
    with pytest.raises(ValueError, match=f"'split': {key}"):
        parsed([{"name": "source"}, {"name": "split", key: value}], [(0, 1)])


@pytest.mark.parametrize("fixed", [0, 9, 2.5, True])
def test_a_fixed_count_that_cannot_be_is_refused(fixed):
    with pytest.raises(ValueError, match="'a': fixed"):
        parsed([{"name": "a", "fixed": fixed}], [])


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        ([(0, 3)], "from 0 to 2"),
        ([(1, 1)], "two operators"),
        ([(0, 1), (1, 0)], "no cycle"),
        ([(0, 1, 2)], "two indices"),
    ],
)
def test_dependencies_that_cannot_be_are_value_errors(edges, words):
    with pytest.raises(ValueError, match=words):
        parsed([{"name": "a"}, {"name": "b"}, {"name": "c"}], edges)


def test_its_errors_are_those_of_the_house_too():
    with pytest.raises(InvalidInput, match="no operator"):
        parsed([])
