"""The report of a real search in a real browser: it loads nothing, no text is cut off, pointing and turning work, light and dark.

And the example that draws while it searches, in its own process and by a server.
"""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ASKED = """
<script>
const text = [...document.querySelectorAll('svg text')].filter(t => t.textContent.trim());
const out = text.filter(t => { const b = t.getBoundingClientRect(), s = t.ownerSVGElement.getBoundingClientRect();
  return b.left < s.left - 2 || b.right > s.right + 2 || b.top < s.top - 2 || b.bottom > s.bottom + 2; });
const named = [...document.querySelectorAll('svg')].map(s => [...s.querySelectorAll('.mark,.head,.name,.end')]);
const meet = (a, b) => a.left + 2 < b.right && b.left + 2 < a.right && a.top + 3 < b.bottom && b.top + 3 < a.bottom;
const pairs = named.flatMap(l => l.flatMap((a, i) => l.slice(i + 1).filter(b =>
  meet(a.getBoundingClientRect(), b.getBoundingClientRect())).map(b => a.textContent + ' / ' + b.textContent)));
const wide = document.documentElement.scrollWidth - innerWidth;
const dot = document.querySelector('circle[data-i]'), box = dot.getBoundingClientRect();
const place = {clientX: box.left + box.width / 2, clientY: box.top + box.height / 2, bubbles: true};
dot.ownerSVGElement.dispatchEvent(new PointerEvent('pointermove', place));
const marked = [...document.querySelectorAll('.on')].map(e => e.dataset.i), told = document.querySelector('output').textContent;
document.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape'}));
const turned = document.querySelector('svg[data-turn]');
const before = turned && turned.querySelector('circle').getAttribute('cx');
turned && turned.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft'}));
const after = turned && turned.querySelector('circle').getAttribute('cx');
document.body.dataset.seen = JSON.stringify({texts: text.length, out: out.map(t => t.textContent), pairs, wide, marked, told,
  left: document.querySelectorAll('.on').length, turned: before !== after,
  ink: getComputedStyle(document.documentElement).color, paper: getComputedStyle(document.documentElement).backgroundColor});
</script>
"""


def example(*arguments: str, folder: Path, **environment: str) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RLAAS_", "RAY_"))}
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            str(ROOT / "examples" / "front.py"),
            *arguments,
            "--out",
            str(folder / "front"),
        ],
        env={**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def front(tmp_path_factory) -> Path:
    """What the example leaves of a short search of `5g`."""
    folder = tmp_path_factory.mktemp("example")
    said = example("--generations", "12", "--population", "40", folder=folder)
    assert "non-dominated points" in said
    return folder / "front"


@pytest.mark.slow
def test_the_example_leaves_a_picture_and_a_report(front: Path) -> None:
    live, report = (front / "live.html").read_text(), (front / "report.html").read_text()
    assert "generation 8:" in live
    assert "<svg" in live
    assert "even 10%" in report
    assert report.count("generation ") > 4


@pytest.mark.slow
def test_a_search_by_the_command_line_leaves_its_report_and_draws_it_again(tmp_path: Path) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RLAAS_", "RAY_"))}
    environment = {**kept, "RLAAS_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}

    def rlaas(*arguments: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "rlaas_ray.cli", *arguments]
        return subprocess.run(
            words, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
        )

    zdt1 = ["--problem", "pymoo.problems.multi.zdt:ZDT1", "--generations", "20", "--population-size", "20"]
    done = rlaas("optimize", *zdt1, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    path = tmp_path / "home" / "runs" / found["id"] / "report.html"
    assert str(path) in done.stderr
    assert [moment["generation"] for moment in found["result"]["growth"]] == [1, 2, 4, 8, 16]
    page = path.read_text()
    assert page.count("<svg") == 1 + 1 + 6
    assert found["id"] in page
    again = rlaas("runs", "report", found["id"], "--out", "again.html")
    assert again.stdout.strip() == "again.html"
    assert (tmp_path / "again.html").read_text() == page


def seen(page: Path, *, folder: Path, width: int = 1200, dark: bool = False) -> dict:
    """The page as the browser has it, with what the script above found."""
    asked = folder / "asked.html"
    asked.write_text(page.read_text().replace("</body>", f"{ASKED}</body>"))
    done = subprocess.run(
        [
            str(BROWSER),
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            f"--user-data-dir={folder / 'profile'}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            f"--window-size={width},900",
            "--enable-logging=stderr",
            "--dump-dom",
            asked.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, "HOME": str(folder)},
    )
    assert "Uncaught" not in done.stderr, done.stderr
    found = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert found is not None, done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no browser on this machine")
def test_in_a_browser_no_text_is_cut_and_points_are_found_and_the_box_turns(front: Path, tmp_path: Path) -> None:
    light = seen(front / "report.html", folder=tmp_path)
    assert light["texts"] > 100
    assert light["out"] == []
    assert light["pairs"] == []
    assert light["wide"] <= 0
    assert len(light["marked"]) == 1 + 1 + 3  # parallel, space, three pairs of objectives
    assert len(set(light["marked"])) == 1
    assert light["told"].startswith(f"point {light['marked'][0]}: latency_p95")
    assert light["left"] == 0
    assert light["turned"]
    dark = seen(front / "report.html", folder=tmp_path, dark=True)
    assert (dark["ink"], dark["paper"]) != (light["ink"], light["paper"])
    assert seen(front / "report.html", folder=tmp_path, width=520)["wide"] <= 0
