"""Makes `deep_sea` importable, a problem whose fronts are known."""

import sys
from pathlib import Path

FOLDER = str(Path(__file__).parents[2] / "train_envs")
if FOLDER not in sys.path:
    sys.path.insert(0, FOLDER)
