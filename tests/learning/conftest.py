"""Makes `counting:Class` importable, here and in the actors that inherit the path."""

import sys
from pathlib import Path

FOLDER = str(Path(__file__).parents[1] / "train_envs")
if FOLDER not in sys.path:
    sys.path.insert(0, FOLDER)
