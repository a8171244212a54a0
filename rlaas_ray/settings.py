"""What the environment says, read once: the home, addresses, URLs; and the system clock.

Read by wiring and the CLI alone; everyone else is handed values. The only module that looks at `os.environ`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pydantic
import pydantic_settings

from rlaas_ray.specs.seams import Clock

# Ray and MLflow report usage unless told not to; nothing leaves the machine unless the user turns it on (decision 12).
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "RAY_DISABLE_IMPORT_WARNING": "1",
}
# One thread each unless a spec says more: torch, BLAS and OpenMP defaults fight each other on shared cores.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMEXPR_NUM_THREADS": "1"}


class Settings(pydantic_settings.BaseSettings):
    """`RLAAS_*` variables. Paths below `home` are derived, never set one by one."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="RLAAS_", frozen=True, extra="ignore")

    home: Path = Path("~/.rlaas")
    url: str | None = None
    api_key: str | None = None
    database_url: str | None = None
    data_url: str | None = None
    mlflow_url: str | None = None
    audit_anchor: Path | None = None
    pepper_file: Path | None = None
    log: str = "text"
    allowed_hosts: str = ""  # names under which the API may be asked besides loopback, by commas; * for any
    runtime_id: str | None = None

    @pydantic.field_validator("home", mode="after")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @property
    def database(self) -> str:
        """SQLAlchemy URL; SQLite in the home by default."""
        return self.database_url or f"sqlite:///{self.home / 'rlaas.db'}"

    @property
    def data(self) -> str:
        """Where decisions, rewards, bundles and artifacts lie: a path, or a URL that fsspec knows."""
        return self.data_url or str(self.home)

    @property
    def tracking(self) -> str:
        """MLflow's tracking URI."""
        return self.mlflow_url or f"sqlite:///{self.home / 'mlflow.db'}"


def read() -> Settings:
    """The settings of this process."""
    return Settings()


def quiet() -> None:
    """Turn usage reporting off and threads to one in this process and its children, where the user has not said otherwise."""
    for name, value in {**QUIET, **ONE_THREAD}.items():
        os.environ.setdefault(name, value)


def child_environment(**more: str) -> dict[str, str]:
    """The environment of a child process: ours, without inherited RAY_* (they would attach us to another cluster), and `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, **QUIET, **{k: v for k, v in ONE_THREAD.items() if k not in kept}, **more}


def variable(name: str) -> str | None:
    """One variable that is not ours, e.g. what Ray sets inside a job."""
    return os.environ.get(name)


class SystemClock(Clock):
    """The real clock."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
