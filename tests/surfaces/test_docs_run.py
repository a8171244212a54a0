"""The tutorial and the SDK's page as a reader runs them, on a real API and a real listener; only the trainings are shorter."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlaas_ray.cli import quickstart_ground as ground

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL, SDK = ROOT / "docs" / "tutorial-own-env.md", ROOT / "docs" / "sdk.md"
# A runtime is there already; watching is done where there is traffic.
SKIPPED = {"rlaas up", "rlaas status", "rlaas down", "rlaas rollout watch room"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def programs(page: Path, folder: Path) -> None:
    """Each program that the page says to save, saved, with short budgets."""
    for name, text in re.findall(r"^```python file=(\S+)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        short = text.replace("range(200)", "range(5)").replace("total_timesteps=100_000", "total_timesteps=2_000")
        (folder / name).write_text(short)


def commands(page: Path) -> list[str]:
    """The `rlaas` lines of the page's shell blocks, in order."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("rlaas ")]


class Reader:
    """A folder with the reader's files, and a shell that knows the server."""

    def __init__(self, folder: Path, *, home: Path, url: str, key: str) -> None:
        self.folder = folder
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RLAAS_", "RAY_"))}
        own = {"RLAAS_HOME": str(home), "RLAAS_URL": url, "RLAAS_API_KEY": key, "OMP_NUM_THREADS": "1"}
        self.environment = {**kept, **own, "PYTHONPATH": str(folder)}

    def types(self, line: str, *, code: int = 0) -> str:
        return self._run(["-m", "rlaas_ray.cli", *shlex.split(line)[1:]], code=code)

    def runs(self, *arguments: str) -> str:
        return self._run(list(arguments), code=0)

    def starts(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, *arguments], env=self.environment, cwd=self.folder)

    def _run(self, arguments: list[str], *, code: int) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("reader")
    shutil.copy(ROOT / "examples" / "thermostat.py", folder)
    programs(TUTORIAL, folder)
    programs(SDK, folder)
    with ground.home() as home, ground.fast(home) as client:
        yield Reader(folder, home=home, url=client.url, key=(home / "admin-key").read_text())


def test_the_tutorial_from_the_check_to_a_challenger_that_is_rolled_back(reader: Reader) -> None:
    assert "full below 21 degrees" in reader.runs("rules.py")
    decided, judged = "", 0
    for line in commands(TUTORIAL):
        short = re.sub(r"--steps 100000", "--steps 2000", line)
        if line in SKIPPED:
            continue
        if line.startswith("rlaas decide"):
            decided = json.loads(reader.types(f"{short} --json"))["decision_id"]
        elif line.startswith("rlaas reward"):
            reader.types(re.sub(r"reward \S+", f"reward {decided}", short))
        elif line.startswith("rlaas rollout start"):
            judged += 1
            reader.types(short)
            if "/random" not in line:  # two trainings of no length: nothing to tell apart
                reader.runs("live.py", "0", "1")
                reader.types("rlaas rollout abort room")
                continue
            traffic = reader.starts("live.py", "2", "200")
            try:
                assert "rolled_back" in reader.types("rlaas rollout watch room", code=3)
            finally:
                traffic.send_signal(signal.SIGKILL)
                traffic.wait()
        else:
            reader.types(short)
    assert decided
    assert judged == 2
    assert (reader.folder / "room.parquet").stat().st_size > 0


def test_the_tutorials_program_trains_serves_decides_and_begins_a_rollout(reader: Reader) -> None:
    assert reader.runs("loop.py").splitlines()[-2:] == ["ramping", "aborted"]


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("runs.py", "succeeded"),
        ("decide.py", "'accepted': 3"),
        ("later.py", " 8"),
        ("front.py", "latency_p95"),
    ],
)
def test_programs_of_the_sdks_page_run_as_they_stand(reader: Reader, program: str, says: str) -> None:
    assert says in reader.runs(program)


def test_a_front_is_watched_by_a_server(reader: Reader) -> None:
    url = reader.environment["RLAAS_URL"]
    said = reader.runs(str(ROOT / "examples" / "front.py"), "--url", url, "--generations", "12", "--population", "40")
    assert "non-dominated points" in said
    assert "Chosen:" in (reader.folder / "front" / "live.html").read_text()
    assert "generation 8," in (reader.folder / "front" / "report.html").read_text()
