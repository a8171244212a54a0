"""Functions that studies of the tests search over; importable as `studies:name` here and in the processes of the tests."""

import math


def branin(parameters):
    """Three equal minima of 0.397887."""
    x, y = parameters["x"], parameters["y"]
    value = (y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6) ** 2
    return {"value": value + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10}


def two_goals(parameters):
    """The front is x in [0, 2]; `distance` is what a constraint may bound."""
    x = parameters["x"]
    return {"near_zero": x * x, "near_two": (x - 2) ** 2, "x": x}


def curve(parameters):
    """Nine reports of a line."""
    for step in range(1, 10):
        yield {"value": parameters["x"] * step}


def seeded(parameters, *, seed):
    """A mean and a spread over seeds: trial a is higher, trial b is surer."""
    spread = {"a": 10.0, "b": 0.1}[parameters["kind"]]
    return {"value": {"a": 1.0, "b": 0.9}[parameters["kind"]] + spread * (seed % 3 - 1)}


def resumed(parameters, folder):
    """Counts in its folder how far it is: paused or killed, it goes on from there, with the parameters that it has then."""
    file = folder / "sum"
    done, total = (float(word) for word in file.read_text().split()) if file.exists() else (0.0, 0.0)
    while done < 6:
        done, total = done + 1, total + parameters["rate"]
        file.write_text(f"{done} {total}")
        yield {"value": total, "step": int(done)}


def picky(parameters):
    if parameters["x"] < 0.5:
        raise ValueError("too small")
    return {"value": parameters["x"]}


def broken(parameters):
    raise ValueError("never works")


def silent(parameters):
    return {"other": 1.0}


def lasting(parameters):
    """As slow as a process must be to be killed in its midst."""
    import time

    time.sleep(0.02)
    return branin(parameters)
