"""Where a run comes from, asked of a real git."""

import subprocess
from pathlib import Path

from rlaas_ray.monitoring import provenance


def test_a_repository_gives_its_revision_and_whether_files_differ(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1")
    words = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for more in (["init", "-q"], ["add", "a.txt"], ["commit", "-qm", "one"]):
        subprocess.run([*words, *more], cwd=tmp_path, check=True)
    found = provenance.read(tmp_path)["git"]
    assert len(found["revision"]) == 40
    assert found["changed"] is False
    (tmp_path / "a.txt").write_text("2")
    assert provenance.read(tmp_path)["git"]["changed"] is True


def test_versions_and_machine_are_told_and_no_repository_is_none(tmp_path: Path) -> None:
    found = provenance.read(tmp_path)
    assert found["git"] is None
    assert found["versions"]["numpy"]
    assert found["versions"]["python"].startswith("3.")
    assert found["machine"]["cpus"] >= 1
