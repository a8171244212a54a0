"""What the command line shows of a search: blocks for the hypervolume, the ideal point, a report in a file."""

from pathlib import Path

import pytest

from rlaas_ray.cli import searches
from tests.unit.pictures.documents import events, result


@pytest.mark.parametrize(
    ("values", "line"),
    [([], ""), ([2.0, 2.0], "▁▁"), ([1.0, 1.5, 1.7, 2.0], "▁▅▆█"), ([1.0], "▁"), ([-1.0, 1.0], "▁█")],
)
def test_blocks_are_as_high_as_their_place_between_lowest_and_highest(values: list[float], line: str) -> None:
    assert searches.sparkline(values) == line


def test_a_long_trace_fits_and_ends_with_the_newest() -> None:
    line = searches.sparkline([i / 1000 for i in range(1001)])
    assert len(line) <= 40
    assert line[-1] == "█"
    assert list(line) == sorted(line)


def test_below_the_bar_are_hypervolume_and_ideal_point() -> None:
    volumes: list[float] = []
    for event in events(3, width=2):
        lines = searches.below({**event, "objectives": result()["objectives"][:2]}, volumes=volumes)
    assert lines[0].startswith("hypervolume ")
    assert len(volumes) == 3
    assert lines[1].startswith("best of each goal_0 ")
    assert searches.below({"front": [], "hypervolume": None}, volumes=[]) == []


def test_a_report_lies_where_it_was_asked_for_and_whole(tmp_path: Path) -> None:
    path = searches.report({"id": "optimize-1", "result": result()}, to=tmp_path / "new" / "front.html")
    assert path == tmp_path / "new" / "front.html"
    assert [p.name for p in path.parent.iterdir()] == ["front.html"]
    assert path.read_text().rstrip().endswith("</html>")


@pytest.mark.parametrize("found", [None, {}, {"front": []}])
def test_a_run_without_a_front_has_no_report(found, tmp_path: Path) -> None:
    assert searches.report({"id": "optimize-1", "result": found}, to=tmp_path / "front.html") is None
