"""Documents say what is: every path, error, command and setting that they name exists, and each that exists is named."""

import re
from pathlib import Path

import pytest

from rlaas_ray import errors

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_every_error_has_its_row_and_every_row_its_error() -> None:
    text = (ROOT / "docs" / "problems.md").read_text()
    rows = {
        (a, b, int(c), int(d))
        for a, b, c, d in re.findall(r"^\| `([a-z-]+)` \| `(\w+)` \| (\d+) \| (\d+) \|", text, re.MULTILINE)
    }
    assert rows == {(slug, e.__name__, e.status, e.exit_code) for slug, e in errors.all_errors().items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_paths_named_in_documents_exist(page: Path) -> None:
    tops = {p.name for p in ROOT.iterdir()} - {"out"}
    named = re.findall(r"`([\w.-]+(?:/[\w.{},*-]+)+/?)`", page.read_text())
    paths = [n for n in named if n.split("/")[0] in tops and "*" not in n and "{" not in n]
    assert [p for p in paths if not (ROOT / p).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_architecture_is_at_most_two_pages() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text().split()) <= 1600
