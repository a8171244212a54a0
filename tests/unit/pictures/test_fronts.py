"""Pictures of a front, read back: the points are where the axes say, what is better is where it is said, names are there."""

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rlaas_ray.pictures import alone, chart, fronts, labels, parallel, space
from rlaas_ray.pictures.found import read
from tests.unit.pictures.documents import events, result

SVG = "{http://www.w3.org/2000/svg}"
PICTURES = {
    "plane": fronts.plane,
    "trace": fronts.trace,
    "parallel": parallel.coordinates,
    "space": space.cube,
}


def drawn(picture: str) -> ET.Element:
    return ET.fromstring(picture)


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter() if element.tag.endswith("text")]


def points(root: ET.Element, tag: str = "circle") -> dict[int, ET.Element]:
    found = [element for element in root.iter() if element.tag.endswith(tag) and "data-i" in element.attrib]
    assert len({element.attrib["data-i"] for element in found}) == len(found)
    return {int(element.attrib["data-i"]): element for element in found}


def test_every_point_is_drawn_once_and_lies_where_its_axes_say() -> None:
    found = read(result())
    circles = points(drawn(fronts.plane(found, x=0, y=1)))
    assert len(circles) == 60
    at = {key: (float(c.attrib["cx"]), float(c.attrib["cy"])) for key, c in circles.items()}
    by_value = sorted(found.rows, key=lambda row: row[1][0])
    assert [at[key][0] for key, _ in by_value] == sorted(x for x, _ in at.values())
    upwards = sorted(found.rows, key=lambda row: -row[1][1])
    assert [at[key][1] for key, _ in upwards] == sorted(y for _, y in at.values())


def test_axes_say_name_unit_and_the_better_direction() -> None:
    words = texts(drawn(fronts.plane(read(result()), x=0, y=1)))
    assert "← goal_0, W (less is better)" in words
    assert "goal_1 (more is better) →" in words


def test_chosen_and_anchors_are_named_and_told_apart_by_their_shape() -> None:
    for picture in (fronts.plane(read(result())), space.cube(read(result()))):
        root = drawn(picture)
        stars = [element for element in root.iter() if element.attrib.get("class") == "star"]
        assert sorted(element.tag for element in stars) == ["circle", "circle", "path"]
        assert {"chosen", "even", "greedy"} <= set(texts(root))


def ends(found, *, column: int) -> dict[int, float]:
    """Where each line crosses an axis, from the top."""
    ways = points(drawn(parallel.coordinates(found)), "path")
    return {key: float(re.findall(r"[\d.]+ ([\d.]+)", way.attrib["d"])[column]) for key, way in ways.items()}


@pytest.mark.parametrize("column", [0, 1, 2])
def test_up_is_better_on_every_axis_whichever_way_it_runs(column: int) -> None:
    found = read(result())
    crossed = ends(found, column=column)
    assert len(crossed) == 60
    best = sorted(found.rows, key=lambda row: row[1][column], reverse=not found.objectives[column].less)
    assert [crossed[key] for key, _ in best] == sorted(crossed.values())


def test_the_numbers_on_an_axis_of_less_is_better_fall_from_the_bottom_up() -> None:
    root = drawn(parallel.coordinates(read(result(directions=("min", "max")))))
    ticks = [t for t in root.iter("text") if t.attrib.get("class") == "tick halo"]
    columns: dict[str, list[tuple[float, float]]] = {}
    for tick in ticks:
        columns.setdefault(tick.attrib["x"], []).append((float(tick.attrib["y"]), float(tick.text or "")))
    first, second = (sorted(rows) for _, rows in sorted(columns.items(), key=lambda item: float(item[0])))
    assert [v for _, v in first] == sorted(v for _, v in first)
    assert [v for _, v in second] == sorted((v for _, v in second), reverse=True)


def test_two_objectives_have_the_line_that_they_attain() -> None:
    document = result(directions=("min", "min"), anchors={}, chosen={})
    document["front"] = [[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]]
    lines = [p.attrib["d"] for p in drawn(fronts.plane(read(document))).iter("path") if p.attrib.get("class") == "line"]
    (line,) = lines
    assert re.fullmatch(r"M[\d.]+ [\d.]+(H[\d.]+V[\d.]+){2}", line)  # flat to the next point, then down to it


def test_the_border_of_what_is_maximised_is_walked_from_the_other_end() -> None:
    document = result(directions=("max", "max"), anchors={}, chosen={})
    document["front"] = [[0.0, 2.0], [2.0, 0.0], [1.0, 1.0]]
    numbers = [
        float(v)
        for v in re.findall(
            r"[HM]([\d.]+)",
            next(
                p.attrib["d"]
                for p in drawn(fronts.plane(read(document))).iter("path")
                if p.attrib.get("class") == "line"
            ),
        )
    ]
    assert numbers == sorted(numbers, reverse=True)


def test_the_hypervolume_says_when_most_of_it_was_there() -> None:
    picture = fronts.trace(read(result(hypervolume_trace=[0.1, 0.2, 0.99, 1.0, 1.0])))
    assert "1.0000 after 5; 99 % of it in generation 3." in picture
    assert "generation (100 evaluations each)" in texts(drawn(picture))


def test_a_thinned_trace_is_drawn_over_all_its_generations() -> None:
    found = read(result(hypervolume_trace=[0.1, 0.2, 0.3], hypervolume_stride=50))
    assert "0.3000 after 101" in fronts.trace(found)


def test_growth_has_its_first_and_last_moment_and_at_most_six() -> None:
    told = fronts.growth(read(result()), events=events())
    assert 2 <= len(told) <= 6
    assert told[0][0].startswith("generation 10,")
    assert told[-1][0].startswith("generation 200,")
    circles = [len(list(drawn(picture).iter("circle"))) for _, picture in told]
    assert circles == [60 + 30] * len(told)


def test_growth_of_nothing_is_nothing() -> None:
    assert fronts.growth(read(result()), events=[]) == []
    assert fronts.growth(read(result()), events=[{"generation": 1, "front": [], "hypervolume": 0.0}]) == []
    assert fronts.growth(read({}), events=events()) == []


def test_space_puts_far_points_first_and_the_corner_nearest() -> None:
    document = result(directions=("min", "min", "min"), anchors={}, chosen={})
    document["front"] = [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]
    circles = points(drawn(space.cube(read(document))))
    assert float(circles[0].attrib["r"]) > float(circles[2].attrib["r"])
    assert float(circles[1].attrib["cy"]) < float(circles[2].attrib["cy"])  # higher up
    assert list(circles)[-1] == 0


SIZES = [(name, width) for name in PICTURES for width in (1, 2, 3, 8) if width >= {"plane": 2, "space": 3}.get(name, 1)]


@pytest.mark.parametrize(("name", "width"), SIZES)
@pytest.mark.parametrize("count", [0, 1, 500])
def test_any_number_of_points_and_objectives(name: str, count: int, width: int) -> None:
    found = read(result(count, directions=("min", "max", "min", "max", "min", "max", "min", "max")[:width]))
    root = drawn(PICTURES[name](found))
    if name != "trace":
        assert len(points(root, "path" if name == "parallel" else "circle")) == count
    assert "nan" not in PICTURES[name](found)


def test_eight_objectives_are_seen_by_pairs_with_the_heaviest_at_most_four() -> None:
    found = read(result(directions=("min",) * 8))
    assert fronts.planes(found) == [(7, 6), (7, 5), (7, 4), (7, 3)]


@pytest.mark.parametrize("name", PICTURES)
def test_names_of_somebody_else_are_text(name: str) -> None:
    evil = "\"><script>alert(1)</script>&'"
    document = result()
    for objective in document["objectives"]:
        objective["name"] += evil
        objective["unit"] = evil
    document["anchors"] = {evil: {o["name"]: 5.0 for o in document["objectives"]}}
    document["chosen"] = {"objectives": {o["name"]: 5.0 for o in document["objectives"]}, "index": 0}
    picture = PICTURES[name](read(document))
    assert "<script" not in picture
    drawn(picture)


def test_rows_that_are_not_points_are_left_out() -> None:
    document = result(2, directions=("min", "min"))
    document["front"] += [
        [math.nan, 1.0],
        [1.0],
        None,
        "row",
        [math.inf, 0.0],
        [1e300, 0.0],
        [True, 1.0],
        [10**400, 1.0],
    ]
    assert [key for key, _ in read(document).rows] == [0, 1]


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)
values = st.lists(st.lists(st.floats(), min_size=3, max_size=3), max_size=6)


@settings(max_examples=30, deadline=None)
@example(front=[[5e10, 0.0, 0.0], [2.8e-298, 0.0, 0.0]], trace=[])
@example(front=[[1e150, 1e-150, -1e150], [1e-150, 1e-140, 1e150]], trace=[5e-324, 1e-310])
@given(front=values, trace=st.lists(st.floats(), max_size=5))
def test_any_floats_are_drawn_or_left_out(front: list[list[float]], trace: list[float]) -> None:
    found = read(result(0, front=front, hypervolume_trace=trace))
    for name, picture in PICTURES.items():
        assert not re.search(r"\b(nan|inf)\b", picture(found)), name


@settings(max_examples=30, deadline=None)
@given(
    event=st.dictionaries(
        st.sampled_from(["front", "generation", "hypervolume", "objectives", "chosen", "weights", "anchors"]), anything
    )
)
def test_a_document_of_another_form_is_read_as_far_as_it_goes(event: dict) -> None:
    found = read(event)
    assert all(len(row) == len(found.objectives) for _, row in found.rows)


def test_an_event_without_names_gets_some_and_with_them_keeps_them() -> None:
    event = {"generation": 3, "front": [[1.0, 2.0]], "hypervolume": 0.1}
    assert [o.name for o in read(event).objectives] == ["f1", "f2"]
    named = read(
        event,
        objectives=[
            {"name": "energy", "unit": "W", "direction": "min"},
            {"name": "rate", "unit": "1", "direction": "max"},
        ],
    )
    assert [o.title for o in named.objectives] == ["← energy, W (less is better)", "rate (more is better) →"]


def test_labels_do_not_cover_one_another_where_there_is_room() -> None:
    wanted = [labels.Label(x=100.0 + 3 * i, y=100.0, text=f"point {i}", colour="ink") for i in range(5)]
    placed = [ET.fromstring(text) for text in labels.placed(wanted, box=(0, 0, 400, 200))]
    boxes = []
    for text in placed:
        width = 7.6 * len(text.text or "")
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        left = {"start": x, "end": x - width, "middle": x - width / 2}[text.attrib["text-anchor"]]
        boxes.append((left, y - 9, left + width, y + 3))
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_a_picture_that_stands_alone_has_its_paper_its_colours_and_its_title() -> None:
    picture = alone.standing(fronts.plane(read(result())), title="A <front>")
    root = drawn(picture)
    assert root.tag == f"{SVG}svg"
    assert root.attrib["role"] == "img"
    assert "60 points" in root.attrib["aria-label"]
    assert "prefers-color-scheme:dark" in picture
    assert "A <front>" in texts(root)


def test_one_value_has_an_axis_that_can_be_read() -> None:
    axis = chart.spanning("x", [1e9, 1e9 + 1e-6])
    assert len({chart.shown(tick) for tick in axis.ticks()}) >= 2
