"""A replica that opens a bundle loads neither torch nor Ray: 1.7 s and 200 MB that no decision needs."""

import subprocess
import sys

SCRIPT = """
import sys, tempfile
from pathlib import Path
from gymnasium import spaces
from rlaas_ray.policies import bundle
path = Path(tempfile.mkdtemp()) / "b"
space = spaces.Box(-1, 1, (2,))
bundle.write_builtin(path, env="E-v0", name="random", parameters={}, observation_space=space, action_space=space)
bundle.load(path).act([0.0, 0.0])
print(sorted({"torch", "ray", "pandas", "pyarrow"} & set(sys.modules)))
"""


def test_opening_a_bundle_and_acting_imports_no_torch_and_no_ray():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
