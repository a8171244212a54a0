"""The report: it parses, needs nothing from outside, has every section, and shows the figures that the story holds."""

import base64
import dataclasses
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from rlaas_ray.cli import report, story
from rlaas_ray.pictures import chart as plots

PICTURE = b"\x89PNG and more"
VOID = {"meta", "br", "path", "circle", "img", "link", "hr"}


def evidence(drift: float, *, seconds: int, stages: dict[int, float]) -> tuple[dict[str, float], ...]:
    rng = np.random.default_rng(0)
    rows, harm, good, share = [], 0.0, 0.0, 0.0
    for t in range(seconds):
        share = stages.get(t, share)
        harm += -drift + rng.normal(0, 0.2)
        good += drift * 0.8 + rng.normal(0, 0.1)
        width = 0.3 / math.sqrt(t + 1)
        rows.append({
            "t": float(t), "log_e_reward": harm, "log_e_failure": 0.0, "log_e_latency": -0.02 * t, "log_w_superior": good,
            "effect": 0.05 * drift, "effect_low": 0.05 * drift - width, "effect_high": 0.05 * drift + width, "share": share,
            "closed_challenger": 3 * t,
        })  # fmt: skip
    return tuple(rows)


def trial(name: str, *, state: str, drift: float, seconds: int) -> story.Trial:
    kind = {"promoted": "promote", "rolled_back": "roll_back"}.get(state)
    challenger = [round(30 * min(1, t / 20)) for t in range(seconds)]
    return story.Trial(
        name=name,
        champion="hold",
        challenger="ran-ppo:1",
        state=state,
        verdict={"kind": kind, "reason": f"because <{name}> & evidence", "numbers": {}} if kind else None,
        evidence=evidence(drift, seconds=seconds, stages={2: 0.1, 12: 0.25, 20: 0.5}),
        traffic=story.Traffic(
            second=tuple(range(seconds)), champion=tuple(300 - c for c in challenger), challenger=tuple(challenger)
        ),
        decisions=12_345 if drift > 0 else 2_222,
        harmed=4_321 if drift > 0 else 87,
        failures=0,
        seconds=float(seconds),
        verdict_s=seconds - 1.5 if kind else None,
        reward_low=3.2,
        reward_high=7.6,
        spec={"stages": [10, 25, 50], "alpha": 0.01, "promote": "superior", "preset": "demo", "min_units": 200},
    )


def told(**changes) -> story.Story:
    rng = np.random.default_rng(1)
    energy = np.linspace(3600, 9000, 300)
    cloud = np.stack([
        2 + 6 * np.exp(-(energy - 3600) / 900) + rng.random(300), 300 + energy / 30 + 40 * rng.random(300), energy,
        0.5 + energy / 24000 + 0.05 * rng.random(300),
    ], axis=1)  # fmt: skip
    names = ("latency_p95", "throughput", "energy", "satisfied")
    units = ("s", "Mbps", "W", "1")
    front = {
        "objectives": [
            {"name": n, "unit": u, "direction": d}
            for n, u, d in zip(names, units, ("min", "max", "min", "max"), strict=True)
        ],
        "front": cloud.tolist(),
        "front_size": 300,
        "chosen": {"index": 80, "objectives": dict(zip(names, cloud[80].tolist(), strict=True)), "score": 0.71},
        "weights": {"latency_p95": 0.15, "throughput": 0.15, "energy": 0.5, "satisfied": 0.2},
        "hypervolume": 0.1725,
        "hypervolume_trace": (0.17 * (1 - np.exp(-np.arange(200) / 40))).tolist(),
        "anchors": {
            "even 100%": dict(zip(names, (1.9, 581.2, 9408.0, 0.91), strict=True)),
            "even 10%": dict(zip(names, (2.5, 518.5, 5854.8, 0.83), strict=True)),
            "wmmse": dict(zip(names, (10.0, 721.7, 9096.6, 0.84), strict=True)),
        },
        "seed": 7, "generations": 200, "evaluations": 20_006, "seconds": 5.5,
    }  # fmt: skip
    steps = np.arange(1, 200) * 1024
    whole = story.Story(
        env="rlaas/RanControl-v1",
        mode="energy_saving",
        seed=7,
        fast=False,
        started="2026-11-21 13:00 UTC",
        seconds=211.4,
        scores=(
            story.Score(name="random", mean=55.6, low=55.1, high=56.1, episodes=100, source="prepared beforehand", score=0.0),
            story.Score(name="hold", mean=61.63, low=60.9, high=62.31, episodes=64, source="measured now", score=32.4),
            story.Score(
                name="trained", mean=66.02, low=65.3, high=66.71, episodes=64, source="measured now", score=58.3,
                gain=(4.391, 4.152, 4.63),
            ),
            story.Score(
                name="coordinate_ascent", mean=73.1, low=72.5, high=73.7, episodes=100, source="prepared beforehand", score=100.0
            ),
        ),
        learning=story.Learning(
            steps=tuple(int(s) for s in steps),
            elapsed_s=tuple((steps / 4000).tolist()),
            returns=(None, *(61.2 + 4.2 * (1 - np.exp(-steps[1:] / 40_000))).tolist()),
            algorithm="ppo",
            seconds=46.2,
            total_steps=203_776,
            episodes=2_122,
        ),
        front=front,
        canary=trial("canary", state="promoted", drift=0.35, seconds=42),
        rollback=trial("broken", state="rolled_back", drift=-0.9, seconds=8),
        picture=PICTURE,
        phases=(("bring up", 14.2), ("train", 46.2), ("score", 3.1), ("front", 5.5), ("canary", 42.0), ("rollback", 8.0)),
        machine={"processor": "2 cores", "system": "Linux"},
        versions={"rlaas-ray": "0.1.0"},
        reference={"date": "2026-11-20", "git": "abc1234"},
    )  # fmt: skip
    return dataclasses.replace(whole, **changes)


class Strict(HTMLParser):
    """Refuses a page whose tags do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []
        self.labels: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if "id" in given:
            self.ids.append(str(given["id"]))
        if tag == "svg":
            self.labels.append(str(given.get("aria-label")))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        return

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(page: str) -> Strict:
    parser = Strict()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def test_the_page_parses_and_has_every_section_once() -> None:
    page = parsed(report.render(told()))
    assert page.ids == ["summary", "scores", "learning", "front", "canary", "rollback", "facts"]


def test_every_drawing_says_what_it_shows() -> None:
    labels = parsed(report.render(told())).labels
    assert len(labels) == 12
    assert all(len(label) > 10 for label in labels)


def test_nothing_is_loaded_from_outside() -> None:
    page = report.render(told())
    picture = f'src="data:image/png;base64,{base64.b64encode(PICTURE).decode()}"'
    assert page.count("<img") == page.count(picture) == 1
    assert not re.search(r"(https?:)?//\w|@import|url\(|<script|<link|src=", page.replace(picture, ""))


def test_the_figures_shown_are_the_ones_given() -> None:
    text = " ".join(" ".join(parsed(report.render(told())).text).split())
    for figure in (
        "66.02", "65.30 to 66.71", "58.3", "+4.39 (+4.15 to +4.63)", "61.63", "12,345 decisions", "4,321 by the challenger",
        "87 decisions", "203,776 environment steps", "hypervolume 0.1725", "20,006 evaluations", "seed 7", "211 s", "46.2 s",
        "prepared beforehand", "measured now", "wmmse", "9,408", "roll back at 200", "promote at 20", "energy 0.5",
        "demo preset",
    ):  # fmt: skip
        assert figure in text, figure


def test_points_are_shown_under_their_own_names_whatever_the_order_of_their_keys() -> None:
    front = json.loads(json.dumps(told().front, sort_keys=True))
    text = " ".join(" ".join(parsed(report.render(told(front=front))).text).split())
    # latency, throughput, energy, satisfied
    assert "wmmse 10.00 721.70 9,097 0.84" in text


def test_a_verdict_is_not_said_twice() -> None:
    twice = dataclasses.replace(
        trial("canary", state="promoted", drift=0.1, seconds=5),
        verdict={"kind": "promote", "reason": "promoted: it is better"},
    )
    assert "promoted: it" not in report.render(told(canary=twice))


def test_words_from_outside_are_escaped() -> None:
    page = report.render(told())
    assert "because &lt;canary&gt; &amp; evidence" in page
    assert "<canary>" not in page


@pytest.mark.parametrize(
    ("state", "words"),
    [("promoted", "promoted"), ("rolled_back", "rolled back"), ("inconclusive", "undecided"), ("ramping", "still ramping")],
)  # fmt: skip
def test_the_headline_tells_the_verdict_whichever_it_was(state: str, words: str) -> None:
    assert words in report.headline(told(canary=trial("canary", state=state, drift=0.1, seconds=5)))


def test_a_run_that_broke_off_early_still_has_a_page() -> None:
    empty = dataclasses.replace(
        trial("canary", state="ramping", drift=0.1, seconds=1), evidence=(), verdict=None,
        traffic=story.Traffic(second=(), champion=(), challenger=()),
    )  # fmt: skip
    bare = dataclasses.replace(told().learning, steps=(), elapsed_s=(), returns=(), total_steps=0, seconds=0.0)
    text = " ".join(parsed(report.render(told(canary=empty, learning=bare))).text)
    assert "No verdict was reached" in text


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    path = report.write(told(), tmp_path / "new" / "report.html")
    assert path.read_text().endswith("</html>")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_line_passes_through_its_points() -> None:
    axis = plots.Axis(label="x", low=0.0, high=10.0)
    chart = plots.Chart(x=axis, y=axis, title="a diagonal", width=178.0, height=158.0)
    chart.line([(0.0, 0.0), (5.0, 5.0), (10.0, 10.0)], colour="champion")
    # 100 wide from 62, 100 high from 14
    assert 'd="M62.0 114.0 L112.0 64.0 L162.0 14.0"' in chart.svg()


def test_ticks_are_round_and_logarithms_have_decades() -> None:
    assert plots.Axis(label="x", low=0.0, high=1.0).ticks() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert plots.Axis(label="x", low=0.5, high=2000, log=True).ticks() == [1, 10, 100, 1000]


def test_not_a_number_is_left_out_of_a_line() -> None:
    axis = plots.Axis(label="x", low=0.0, high=1.0)
    chart = plots.Chart(x=axis, y=axis, title="a gap in it")
    chart.line([(0.0, 0.0), (0.5, math.nan), (1.0, 1.0)], colour="champion")
    assert "nan" not in chart.svg()


def test_thinning_keeps_the_last_point() -> None:
    points = [(float(i), float(i)) for i in range(1001)]
    kept = plots.thinned(points)
    assert len(kept) <= 401
    assert kept[-1] == (1000.0, 1000.0)
