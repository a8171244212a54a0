"""`rlaas env score` and `picture` as commands: a policy of other spaces is refused, a picture is a picture."""

from click.testing import CliRunner
from PIL import Image

from rlaas_ray.cli.environments import env
from rlaas_ray.testing import bundles

TINY = "rlaas/RanControl-tiny-v1"


def test_a_policy_with_other_spaces_is_refused_by_both_spaces(tmp_path):
    bundles.a_bundle(tmp_path / "other", width=14, actions=9)
    done = CliRunner().invoke(env, ["score", TINY, "--policy", str(tmp_path / "other")])
    assert done.exception is not None
    assert "Discrete(9)" in str(done.exception)
    assert "MultiDiscrete" in str(done.exception)


def test_a_gif_has_a_frame_for_the_start_and_each_step(tmp_path):
    target = tmp_path / "day.gif"
    done = CliRunner().invoke(env, ["picture", TINY, "--to", str(target), "--steps", "3", "--policy", "grid"])
    assert done.exception is None, done.exception
    with Image.open(target) as shown:
        assert shown.n_frames == 4
    refused = CliRunner().invoke(env, ["picture", TINY, "--to", str(tmp_path / "day.bmp")])
    assert "day.bmp" in str(refused.exception)
