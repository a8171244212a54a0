"""Generators keep their contract, whatever dataflow they are given; answers of a model are read as the page says."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaas_ray.errors import InvalidInput, Unavailable
from rlaas_ray.policies.lastream import generators, operators, prompt
from rlaas_ray.testing.clock import ManualClock


@st.composite
def dataflows(draw):
    count, limit = draw(st.integers(1, 5)), draw(st.integers(1, 32))
    rate = st.floats(0, 1e7, allow_nan=False)
    info = []
    for number in range(count):
        item = {"name": f"o{number}", "processing_capability": draw(rate), "input_rate": draw(rate)}
        item |= {"selectivity": draw(st.floats(0, 50)), "resource_load": draw(st.floats(0, 1))}
        item["instance_count"] = draw(st.integers(1, limit))
        if draw(st.booleans()):
            item["fixed"] = draw(st.integers(1, limit))
        info.append(item)
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    return operators.parse(info, edges, max_parallelism=limit)


class Model:
    """Says what it was told to say."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def complete(self, messages, *, temperature, max_tokens, deadline_s):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def contract_holds(schemes, *, told, k):
    assert schemes.shape == (k, told.count)
    assert schemes.dtype == np.int64
    assert ((schemes >= 1) & (schemes <= told.max_parallelism)).all()
    assert (schemes[:, told.fixed] == told.current[0, told.fixed]).all()
    possible = told.max_parallelism ** int((~told.fixed).sum())
    assert len(np.unique(schemes, axis=0)) == min(k, possible)
    for must in (told.current[0], told.wanted[0]):
        assert (schemes == must).all(axis=1).any()


@settings(max_examples=40, deadline=None)
@given(told=dataflows(), k=st.integers(2, 24), seed=st.integers(0, 2**32))
def test_the_offline_generator_keeps_the_contract(told, k, seed):
    context = generators.Context(operators=told)
    found = generators.OfflineGenerator().propose(context, k, rng=np.random.default_rng(seed))
    contract_holds(found, told=told, k=k)
    again = generators.OfflineGenerator().propose(context, k, rng=np.random.default_rng(seed))
    np.testing.assert_array_equal(found, again)


@settings(max_examples=40, deadline=None)
@given(
    told=dataflows(),
    k=st.integers(2, 16),
    answer=st.one_of(
        st.text(max_size=200),
        st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5), st.lists).map(
            json.dumps
        ),
        st.lists(st.lists(st.integers(-5, 40), min_size=1, max_size=5), max_size=20).map(
            lambda rows: json.dumps({"schemes": rows})
        ),
    ),
)
def test_whatever_a_model_says_the_contract_is_kept(told, k, answer):
    made = generators.LLMGenerator(Model(answer, answer), clock=ManualClock())
    found = made.propose(generators.Context(operators=told), k, rng=np.random.default_rng(0))
    contract_holds(found, told=told, k=k)
    assert made.fallback_reason in {None, "invalid"}


def two(**more):
    info = [{"name": "a", "processing_capability": 1.0, "input_rate": 3.0}, {"name": "b", "processing_capability": 1.0}]
    info[1] |= more
    return operators.parse(info, [(0, 1)], max_parallelism=8, current=[2, 2])


def test_the_offline_schemes_are_those_of_the_rule():
    found = generators.propose_many(two(), 10, rng=np.random.default_rng(0))[0].tolist()
    assert found[0] == [3, 3]  # DS2
    assert found[1] == [2, 2]  # in force
    assert found[2:4] == [[4, 4], [5, 5]]  # 1.2 and 1.5 of DS2; 0.8 of it is DS2 again, rounded up
    assert [3, 2] in found  # one more on the busiest
    assert [1, 2] in found


def test_fewer_than_two_candidates_have_no_room_for_what_must_be_there():
    with pytest.raises(InvalidInput, match="2 or more"):
        generators.propose_many(two(), 1, rng=np.random.default_rng(0))


READ = [
    ('{"schemes": [[1, 2], [3, 4]]}', [[1, 2], [3, 4]], 0),
    ("[[1, 2], [3, 4]]", [[1, 2], [3, 4]], 0),
    ("take ```json\n[[1, 2]]\n``` or [[3, 4]]", [[1, 2]], 0),
    ('well: {"schemes": [ [1, 2] ]} is best', [[1, 2]], 0),
    ('{"schemes": [[2.0, 3], [2.5, 3], [true, 1], ["4", 1], [null, 1]]}', [[2, 3]], 0),
    ('{"schemes": [[0, 9], [1, 2]]}', [[1, 8], [1, 2]], 1),
    ('{"schemes": [[1, 2], [1, 2], [1]]}', [[1, 2]], 0),
    ('{"schemes": [[NaN, 2], [1, 3]]}', [[1, 3]], 0),
    ('{"schemes": "[[1, 2]]"}', [[1, 2]], 0),
    ("use 3 and 4", [], 0),
    ('{"other": 1}', [], 0),
    ("", [], 0),
    ("[[" * 3000, [], 0),
    (" " * (256 * 1024) + "[[1, 2]]", [], 0),
]


@pytest.mark.parametrize(("text", "rows", "clipped"), READ, ids=range(len(READ)))
def test_an_answer_is_read_as_rows_of_whole_numbers(text, rows, clipped):
    found, count = prompt.schemes(text, operators=two())
    assert (found.tolist(), count) == (rows, clipped)


def test_a_fixed_operator_is_written_over():
    assert prompt.schemes("[[1, 7]]", operators=two(fixed=3))[0].tolist() == [[1, 3]]


def test_a_model_is_asked_twice_at_most_and_then_left():
    model = Model("no", "no", "[[1, 1]]")
    made = generators.LLMGenerator(model, clock=ManualClock())
    made.propose(generators.Context(operators=two()), 4, rng=np.random.default_rng(0))
    assert made.fallback_reason == "invalid"
    assert model.answers == ["[[1, 1]]"]


def test_a_failure_is_not_tried_again():
    model = Model(Unavailable("the language model", given="timeout"), "[[1, 1], [1, 2]]")
    made = generators.LLMGenerator(model, clock=ManualClock())
    made.propose(generators.Context(operators=two()), 4, rng=np.random.default_rng(0))
    assert made.fallback_reason == "timeout"
    assert len(model.answers) == 1


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[3, 3], [2, 2]], "shape"),
        ([[3.0, 3.0], [2.0, 2.0], [1.0, 1.0]], "shape"),
        ([[3, 3], [2, 2], [9, 1]], "counts from"),
        ([[3, 3], [2, 2], [2, 2]], "twice"),
        ([[3, 3], [1, 2], [1, 1]], "in force"),
    ],
)
def test_a_generator_that_breaks_the_contract_is_named(rows, words):
    with pytest.raises(InvalidInput, match=f"mine.*{words}"):
        generators.checked(np.array(rows), operators=two(), k=3, generator="mine")
