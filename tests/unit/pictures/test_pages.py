"""The report of a search and the notebook's pieces: they parse, need nothing from outside, show what the document holds."""

import re
from html.parser import HTMLParser

import pytest

from rlaas_ray.pictures import notebook, search_report
from rlaas_ray.pictures.found import document_of
from tests.unit.pictures.documents import events, result

VOID = {"meta", "path", "circle", "rect", "br"}
EVIL = "\"><script>alert(1)</script>&'"


class Page(HTMLParser):
    """Which elements there are, what they say, and that each is closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "script"}:
            self.words.append(data.strip())

    def count(self, tag: str, **attributes: str) -> int:
        return sum(t == tag and attributes.items() <= a.items() for t, a in self.elements)


def test_the_report_has_every_picture_and_every_point_as_a_row() -> None:
    page = Page(search_report.render(result(), events=events(), run_id="optimize-1"))
    assert page.count("svg") == 1 + 1 + 2 + 1 + 6  # parallel, space, planes, hypervolume, growth
    assert all(a.get("role") == "img" and a.get("aria-label") for t, a in page.elements if t == "svg")
    assert sum(t == "tr" and "data-i" in a for t, a in page.elements) == 60
    assert {"summary", "front", "choice", "growth", "points", "facts"} <= {a.get("id") for _, a in page.elements}
    assert "optimize-1" in " ".join(page.words)


def test_two_objectives_need_neither_space_nor_parallel_axes() -> None:
    page = Page(search_report.render(result(directions=("min", "max"))))
    assert page.count("svg") == 2


def test_the_chosen_point_is_shown_with_its_reason_and_in_the_order_of_the_objectives() -> None:
    document = result()
    document["chosen"]["reason"] = "Point 30 of 60 <non-dominated> by topsis."
    page = Page(search_report.render(document))
    assert "Point 30 of 60 <non-dominated> by topsis." in page.words
    at = page.words.index("chosen", page.words.index("The chosen point"))
    shown = [word for word in page.words[at + 1 : at + 8] if word]
    assert [float(v.replace(",", "")) for v in shown[:3]] == pytest.approx(document["front"][30], rel=0.01)


def test_without_a_reason_the_weights_and_the_score_are_the_reason() -> None:
    words = " ".join(Page(search_report.render(result())).words)
    assert "by TOPSIS at weights goal_0 1, goal_1 1.5, goal_2 2; score 0.700" in words


def test_the_page_loads_nothing() -> None:
    text = search_report.render(result(), events=events())
    assert re.findall(r"""(?:src|href|action)=|url\(|@import|https?://(?!www\.w3\.org)|fetch\(""", text) == []


@pytest.mark.parametrize("make", [search_report.render, notebook.result, notebook.front, notebook.moment])
def test_what_others_wrote_is_text(make) -> None:
    document = result(problem=EVIL, summary=EVIL, ended_because=EVIL, generation=EVIL)
    document["objectives"][0]["name"] = EVIL
    document["chosen"]["reason"] = EVIL
    document["chosen"]["objectives"][EVIL] = document["chosen"]["objectives"].pop("goal_0")
    document["anchors"] = {EVIL: {**document["anchors"]["even"], EVIL: 1.0}}
    text = make(document)
    assert "alert(1)<" not in text
    assert Page(text).count("script") == (1 if make is search_report.render else 0)
    assert any("<script>alert(1)" in words for words in Page(text).words)


@pytest.mark.parametrize("count", [0, 1, 500])
@pytest.mark.parametrize("make", [search_report.render, notebook.result, notebook.front, notebook.moment])
def test_any_size_has_a_page(make, count: int) -> None:
    Page(make(result(count, directions=("min", "max") * 4)))
    Page(make({}))


def test_moments_that_the_result_has_kept_are_drawn_with_its_end() -> None:
    page = Page(search_report.render(result(growth=events(3))))
    said = [words for words in page.words if words.startswith("generation ") and "hypervolume" in words]
    assert [words.split(",")[0] for words in said] == [f"generation {g}" for g in (10, 20, 30, 200)]


@pytest.mark.parametrize(
    ("raw", "words"),
    [(0.5, "in units of the objectives, from the front to the reference point"), (60.0, "share of the box")],
)
def test_what_the_hypervolume_is_measured_in_is_said(raw: float, words: str) -> None:
    assert words in search_report.render(result(hypervolume_raw=raw))


def test_a_piece_of_a_notebook_keeps_its_style_to_itself() -> None:
    text = notebook.result(result())
    rules = re.findall(r"(?:^|\})\s*([^{}@]+)\{", re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1])
    assert rules
    assert all(".rlaas" in one or ".drawn" in one for rule in rules for one in rule.split(","))


def test_a_moment_says_generation_points_and_ideal() -> None:
    event = {**events(1, width=2)[0], "front_size": 1234, "objectives": result()["objectives"][:2]}
    words = " ".join(Page(notebook.moment(event, trace=[(1.0, 0.1), (10.0, 0.4)])).words)
    assert "generation 10: 1,234 points of which none beats another" in words
    assert "Best of each so far: goal_0" in words


def test_points_chosen_later_stand_beside_the_first_with_their_reasons() -> None:
    document = result()
    objectives = dict(zip([o["name"] for o in document["objectives"]], document["front"][3], strict=True))
    choices = [
        {"seq": 9, "method": "knee", "chosen": {"index": 3, "objectives": objectives}, "reason": "where it <bends>"},
        {"seq": 12, "rule": "nash", "chosen": None, "reason": "b must give way"},
    ]
    words = Page(search_report.render(document, choices=choices)).words
    assert words.count("by knee, event 9") == 2  # its row and its reason
    assert words.count("by nash, event 12") == 1
    assert {"where it <bends>", "b must give way"} <= set(words)


@pytest.mark.parametrize(
    "held",
    [result(), {"front": result()}, {"evaluation": {"front": result()}, "version": {}}],
    ids=["search", "evaluation", "training"],
)
def test_the_front_of_a_run_is_found_wherever_its_result_holds_it(held: dict) -> None:
    assert document_of(held) == result()
    assert document_of({"front": [], "evaluation": {"return_mean": 1.0}}) is None
