"""DS2 against the unit values of its authors' repository (controller/src/policy), and what it does without data."""

import numpy as np
import pytest

from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import ds2

CHAIN = [(0, 1), (1, 2)]
TWO_SOURCES = [(0, 2), (1, 2), (2, 3)]


def row(*values):
    return np.asarray([values], np.float64)


@pytest.mark.parametrize(
    ("rate", "first", "second", "wanted"),
    [
        (100, (50, 400), 100, [2, 8]),
        (200, (40, 700), 99, [5, 36]),
        (200, (10, 700), 201, [20, 70]),
    ],
)
def test_a_chain_gets_the_repositorys_own_counts(rate, first, second, wanted):
    found = ds2.parallelism(
        edges=CHAIN,
        offered=row(rate, 0, 0),
        processed=row(rate, first[0], second),
        output=row(rate, first[1]),
        instances=np.ones((1, 3)),
    )
    assert found.tolist() == [[1, *wanted]]


def test_two_sources_add_up():
    found = ds2.parallelism(
        edges=TWO_SOURCES,
        offered=row(100, 100, 0, 0),
        processed=row(100, 100, 50, 100),
        output=row(100, 100, 400),
        instances=np.ones((1, 4)),
    )
    assert found.tolist() == [[1, 1, 4, 16]]


def test_rates_are_summed_over_instances_and_a_source_that_falls_behind_is_brought_to_what_is_offered():
    found = ds2.parallelism(
        edges=CHAIN,
        offered=row(200, 0, 0),
        processed=row(100, 4 * 40, 2 * 99),
        output=row(100, 4 * 700),
        instances=np.asarray([[1, 4, 2]]),
    )
    assert found.tolist() == [[1, 5, 36]]


def test_a_factor_provisions_more_and_a_whole_count_is_not_rounded_up():
    rates = {"edges": [(0, 1)], "processed": row(1.0, 0.1), "output": row(1.0), "instances": np.ones((1, 2))}
    assert ds2.parallelism(offered=row(0.3, 0), **rates).tolist() == [[1, 3]]  # .3/.1 is a little above 3
    assert ds2.parallelism(offered=row(0.3, 0), factor=0.2, **rates).tolist() == [[1, 4]]


def test_above_the_threshold_counts_grow_by_what_the_source_lacks_but_not_where_something_is_scaled_up():
    given = {
        "edges": CHAIN,
        "offered": row(100, 0, 0),
        "processed": row(100, 200, 200),
        "output": row(100, 200),
        "observed": row(50, 0, 0),
        "threshold": 1.5,
    }
    assert ds2.parallelism(instances=np.asarray([[1, 2, 2]]), **given).tolist() == [[1, 2, 2]]
    assert ds2.parallelism(instances=np.asarray([[1, 4, 4]]), **given).tolist() == [[1, 4, 4]]
    assert ds2.parallelism(instances=np.asarray([[1, 4, 4]]), **(given | {"threshold": 3.0})).tolist() == [[1, 2, 2]]


def test_an_operator_without_data_keeps_its_count():
    found = ds2.parallelism(
        edges=CHAIN,
        offered=row(100, 0, 0),
        processed=row(100, 0, 0),
        output=row(100, 0),
        instances=np.asarray([[1, 3, 7]]),
    )
    assert found.tolist() == [[1, 3, 7]]


def test_a_cycle_and_wrong_shapes_are_refused():
    with pytest.raises(InvalidInput, match="cycle"):
        ds2.order([(0, 1), (1, 2), (2, 1)], operators=3)
    with pytest.raises(InvalidInput, match="indices below 3"):
        ds2.parallelism(
            edges=[(0, 5)], offered=row(1, 0, 0), processed=row(1, 1, 1), output=row(1), instances=np.ones((1, 3))
        )
    with pytest.raises(InvalidInput, match="rates"):
        ds2.parallelism(
            edges=CHAIN, offered=row(1, 0), processed=row(1, 1, 1), output=row(1, 1), instances=np.ones((1, 3))
        )
