"""Functions that kill their process, for the tests on Ray; and a scheduler of a user."""

import os
import signal

from studies import resumed


def fatal(parameters, folder):
    """Dies once, in the middle."""
    for row in resumed(parameters, folder):
        if row["step"] == 3 and not (folder / "died").exists():
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield row


def deadly(parameters, folder):
    """Dies whenever its rate is 2."""
    if parameters["rate"] == 2.0:
        os.kill(os.getpid(), signal.SIGKILL)
    yield from resumed(parameters, folder)


def patient(metric, mode, max_t):
    """Stops nobody before the budget is over."""
    from ray.tune.schedulers import ASHAScheduler

    return ASHAScheduler(metric=metric, mode=mode, max_t=max_t + 1, grace_period=max_t)
