"""What both faces of the client share: bodies, errors rebuilt from problem documents, events read from lines."""

import httpx
import numpy as np
import pytest

from rlaas_ray import errors
from rlaas_ray.sdk import exchange


def response(status: int, **more) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "http://api/x"), **more)


def test_arrays_travel_as_lists_and_nothing_else_is_guessed() -> None:
    assert exchange.body({"observation": np.array([1.5, 2.0], np.float32)}) == b'{"observation":[1.5,2.0]}'
    assert exchange.body({"n": np.int64(3)}) == b'{"n":3}'
    with pytest.raises(errors.BadJson, match="object"):
        exchange.body({"x": object()})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.array([1.0, np.nan])])
def test_nan_and_infinity_never_leave_the_client(value) -> None:
    with pytest.raises(errors.BadJson, match="NaN"):
        exchange.body({"observation": value})


@pytest.mark.parametrize("kind", sorted(errors.all_errors().values(), key=lambda kind: kind.slug))
def test_every_error_comes_back_as_the_class_it_was_with_its_cure(kind) -> None:
    told = kind("the subject", given=3, expected="4", cure="Do that.", pointer="/seed")
    with pytest.raises(kind) as caught:
        exchange.answer(response(kind.status, json=told.to_problem()))
    assert type(caught.value) is kind
    assert (caught.value.cure, caught.value.pointer) == ("Do that.", "/seed")
    assert caught.value.detail == told.detail


def test_an_answer_that_no_rlaas_gives_says_where_it_came_from() -> None:
    with pytest.raises(errors.Unavailable, match=r"http://api/x answered 502.*nginx"):
        exchange.answer(response(502, text="<html>nginx</html>"))


def test_an_empty_good_answer_is_none() -> None:
    assert exchange.answer(response(204)) is None


def events(text: str) -> list[exchange.Event]:
    lines = exchange.EventLines()
    return [event for line in text.split("\n") for event in lines.feed(line)]


def test_events_are_read_as_the_specification_says() -> None:
    text = ': ping\nid: 7\nevent: progress\ndata: {"steps":\ndata: 3}\n\nretry: 2000\n\nevent: end\ndata: {}\n\n'
    assert events(text) == [
        exchange.Event(seq=7, kind="progress", data={"steps": 3}),
        exchange.Event(seq=None, kind="end", data={}),
    ]


def test_a_torn_event_is_not_an_event() -> None:
    assert events('id: 1\ndata: {"a": 1}') == []


def test_numbers_and_texts_of_numpy_are_numbers_and_texts() -> None:
    values = [np.float64(0.5), np.float32(0.5), np.int64(3), np.bool_(1), np.str_("u")]
    assert exchange.body(values) == b'[0.5,0.5,3,true,"u"]'
    assert exchange.body(list(np.array([0.25, 1.0]))) == b"[0.25,1.0]"
