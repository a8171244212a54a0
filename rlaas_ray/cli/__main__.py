"""`python -m rlaas_ray.cli`: the same as `rlaas`, for places that start attempts with the interpreter they run in."""

from rlaas_ray.cli.main import main

if __name__ == "__main__":
    main()
