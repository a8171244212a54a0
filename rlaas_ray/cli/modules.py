"""A user's own module, `module:Class`, travels to where runs of this home find it: `$RLAAS_HOME/modules`.

Called before a run that names one is started. Only for a server of this home; a server elsewhere must have the module
installed, and says so when it does not.
"""

from __future__ import annotations

import importlib.util
import shutil
import sysconfig
from pathlib import Path

from rlaas_ray import settings
from rlaas_ray.errors import NotFound


def send(name: str) -> None:
    """Copy the module that `name` (`module:Class`) names, with its package; what is installed or an id stays."""
    module, colon, _ = name.partition(":")
    if not colon or not all(part.isidentifier() for part in module.split(".")):
        return
    top = module.split(".")[0]
    try:
        found = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise NotFound(
            f"module {module!r} of {name!r}",
            given=module,
            expected="a module that Python finds from here",
            cure=f"Run the command where {top}.py or {top}/ lies, or install it.",
        )
    source = Path(found.submodule_search_locations[0]) if found.submodule_search_locations else Path(found.origin or "")
    folder = settings.read().home / "modules"
    installed = Path(sysconfig.get_paths()["purelib"])
    if source.is_relative_to(installed) or source.is_relative_to(folder) or not source.exists():
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, folder / top, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    else:
        shutil.copyfile(source, folder / source.name)
