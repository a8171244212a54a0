"""The composition root: the one place that names concrete classes together. One function per process loads that process's parts.

`api` for uvicorn, `in_process` for the CLI without a server, `attempt` for run processes. Nothing here decides anything; what is
heavy (Gymnasium, MLflow, torch, Ray) is imported by the function that needs it, when it needs it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlaas_ray import settings as environment
from rlaas_ray.errors import Interrupted, InvalidInput, LostLease, NotFound, from_problem, nearest, told
from rlaas_ray.settings import Settings, SystemClock
from rlaas_ray.specs import document, runtime
from rlaas_ray.specs.runs import Progress, Run, RunState
from rlaas_ray.specs.seams import Clock, DecisionLog, Mirror, Place, Pools, Reporter

if TYPE_CHECKING:
    import httpx
    from fastapi import FastAPI

    from rlaas_ray.control.application import Application
    from rlaas_ray.control.judge import Judge
    from rlaas_ray.control.models import Models
    from rlaas_ray.control.records import Records
    from rlaas_ray.control.rollouts import Rollouts
    from rlaas_ray.jobs.host import Desk
    from rlaas_ray.optimize.search import Evaluate
    from rlaas_ray.specs.optimize import OptimizeSpec
    from rlaas_ray.store.database import Database

_LOG = logging.getLogger(__name__)
MODULES = "modules"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Given:
    """What a test (the users' too) hands in instead of the real thing; None takes the real one."""

    clock: Clock | None = None
    log: DecisionLog | None = None
    places: Mapping[str, Place] | None = None
    pools: Pools | None = None
    mirror: Mirror | None = None


def build(
    settings: Settings, *, inline: bool, url: str = "http://127.0.0.1:8000", given: Given | None = None
) -> Application:
    """The application on this home. `inline`: run processes are the caller's; else they are started here and reach `url`."""
    from rlaas_ray.control.application import Application
    from rlaas_ray.control.endpoints import Endpoints
    from rlaas_ray.control.feed import Feed
    from rlaas_ray.control.keyring import Keyring
    from rlaas_ray.control.loop import Loop, Parts, dead, owner
    from rlaas_ray.control.models import Models
    from rlaas_ray.control.reports import Reports
    from rlaas_ray.control.rollouts import Rollouts
    from rlaas_ray.control.runs import Runs
    from rlaas_ray.store import schema, secrets
    from rlaas_ray.store.database import Database
    from rlaas_ray.store.objects import Objects

    given, home = given or Given(), settings.home
    clock: Clock = given.clock or SystemClock()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(settings.database)
    schema.migrate(database)
    pepper_path = settings.pepper_file or home / "secrets" / "pepper"
    pepper = secrets.made(pepper_path)

    records = _records(settings, database=database, clock=clock)
    feed = Feed(database=database, clock=clock, pepper_path=pepper_path)
    keyring = Keyring(database=database, clock=clock, pepper=pepper, changed=feed.bell.ring)
    keyring.first(lambda secret: secrets.write(home / "admin-key", secret, replace=True))
    places = {} if inline else given.places or _places(settings, clock=clock, url=url)
    spaces_of, ingress = functools.partial(_spaces, home), functools.partial(_ingress, home)
    models = Models(database=database, clock=clock, objects=Objects(Path(settings.data)), spaces_of=spaces_of)
    runs = Runs(database=database, clock=clock, pepper=pepper, places=places, folder=home / "runs", inline=inline)
    rollouts = Rollouts(database=database, clock=clock, models=models, feed=feed, changed=records.sign)
    judge = _judge(settings, database=database, clock=clock, rollouts=rollouts, models=models, log=given.log)
    parts = Parts(
        database=database,
        clock=clock,
        runs=runs,
        judge=judge,
        keyring=keyring,
        records=records,
        places=places,
        pools=given.pools or (None if inline else _pools(settings, url=url, key=keyring.for_pool)),
        mirror=functools.cache(lambda: given.mirror or _mirror(settings)),
    )
    return Application(
        database=database,
        clock=clock,
        runs=runs,
        reports=Reports(database=database, clock=clock, keyring=keyring, bell=runs.bell),
        models=models,
        endpoints=Endpoints(database=database, clock=clock, models=models, feed=feed, ingress=ingress),
        rollouts=rollouts,
        feed=feed,
        judge=judge,
        keyring=keyring,
        records=records,
        loop=Loop(parts, owner=owner(), dead=dead),
        cursor_key=pepper,
        environments=functools.cache(_environments),
        check_env=_check_env,
    )


def _records(settings: Settings, *, database: Database, clock: Clock) -> Records:
    from rlaas_ray.control.records import Records
    from rlaas_ray.store import audit, secrets

    signer = audit.Signer(bytes.fromhex(secrets.made(settings.home / "secrets" / "signing.key").decode()))
    anchor = audit.FileAnchor(settings.audit_anchor or settings.home / "log" / "audit-anchor.jsonl")
    return Records(database=database, clock=clock, signer=signer, anchor=anchor)


def _judge(
    settings: Settings,
    *,
    database: Database,
    clock: Clock,
    rollouts: Rollouts,
    models: Models,
    log: DecisionLog | None,
) -> Judge:
    from rlaas_ray.control.judge import Judge
    from rlaas_ray.data.decision_log import ArrowDecisionLog

    return Judge(
        database=database,
        log=log or ArrowDecisionLog(settings.data),
        clock=clock,
        rollouts=rollouts,
        manifest=models.manifest,
        covariates_of=_covariates,
    )


def api() -> FastAPI:
    """The control API, for `uvicorn --factory rlaas_ray.wiring:api`."""
    from rlaas_ray.api import app, logs

    settings = environment.read()
    environment.quiet()
    logs.configure(settings.log)
    application = build(settings, inline=False, url=_own_url(settings))
    more = {name.strip().lower() for name in settings.allowed_hosts.split(",") if name.strip()}
    return app.create(application, hosts=app.LOCAL | more)


def in_process(settings: Settings) -> FastAPI:
    """The same app for the CLI where no server runs; its lifespan runs the loop while the command runs."""
    from rlaas_ray.api import app

    environment.quiet()
    return app.create(build(settings, inline=True))


def attempt(*, reporter: Reporter, settings: Settings, client: httpx.Client, stop: threading.Event) -> dict[str, Any]:
    """Execute the attempt that `reporter` reports on; gives the run's result with its end `state`.

    `stop` asks it to checkpoint and end (`state: stopped`). `client` asks the API for what the run needs. Raises what the work
    raised, after the API was told.
    """
    environment.quiet()
    _own_modules(settings.home)
    clock = SystemClock()
    run = reporter.claim()
    directory = settings.home / "runs" / run.id
    reporter, provenance = _tracked(reporter, run=run, directory=directory)
    try:
        work = _WORK[run.kind]
        result = work(
            _Attempt(
                run=run,
                reporter=reporter,
                clock=clock,
                directory=directory,
                stop=stop,
                client=client,
                data_url=settings.data,
            )
        )
    except LostLease:
        raise  # somebody else owns the run: whatever this attempt has to say, it is not the run's state
    except (Interrupted, KeyboardInterrupt):
        reporter.finish("stopped")
        raise
    except BaseException as error:
        reporter.finish("failed", error=told(error))
        raise
    result = {**result, "provenance": provenance}
    state: RunState = "stopped" if result.get("state") == "stopped" else "succeeded"
    reporter.finish(state, result=result, checkpoint_uri=result.get("checkpoint_uri"))
    return {**result, "state": state}


def host(
    settings: Settings, *, folder: Path, stop: threading.Event, client: httpx.Client, desk: Callable[[Clock], Desk]
) -> None:
    """Execute the searches that lie in `folder` until `stop`, or until there were none for a while.

    `desk` makes what tells of them; `client` asks for other runs, under their keys.
    """
    from rlaas_ray.jobs.inbox import Inbox, Order

    inbox, clock = Inbox(folder), SystemClock()
    if inbox.hold() is None:  # asked before anything heavy is loaded
        _LOG.info("another host lives in %s", folder)
        return
    from rlaas_ray.jobs import host as hosts
    from rlaas_ray.jobs import hosting, processes
    from rlaas_ray.monitoring import provenance

    environment.quiet()
    _own_modules(settings.home)
    alone = folder.name.startswith(hosting.ALONE)
    if alone:
        os.nice(10)  # it has a core where one is free, and takes little from the searches that share one
    told = desk(clock)
    own = environment.child_environment()
    launch = hosting.Launcher(folder=folder.parent, url=settings.url or "", environment=own)

    def opened(order: Order) -> Any:
        directory = settings.home / "runs" / order.run_id
        return told.open(
            run_id=order.run_id, attempt=order.attempt, directory=directory, key=order.key, place_ref=order.ref
        )

    seams = hosts.Seams(
        open=opened,
        lookup=lambda order, run_id: _document(client, run_id, key=order.key),
        move=lambda order: hosting.move(order, launch=launch),
        runs=settings.home / "runs",
        clock=clock,
        waited_s=processes.waiting(),
        elsewhere=functools.partial(_on_ray, clock=clock),
        provenance=provenance.read(Path.cwd()),
    )
    serving = hosts.Host(inbox, seams, rules=hosting.rules(cores=os.cpu_count() or 1), alone=alone)
    over = threading.Event()
    threading.Thread(target=hosts.watch, args=(serving, over), name="rlaas-watch", daemon=True).start()
    told.start()
    serving.serve(stop)
    over.set()
    serving.close()
    told.close()
    if alone and serving.empty:
        inbox.leave()


def _tracked(reporter: Reporter, *, run: Run, directory: Path) -> tuple[Reporter, dict[str, Any]]:
    """The reporter that also tells the trackers of the spec, and where this attempt comes from, told as its first event."""
    from rlaas_ray.monitoring import provenance
    from rlaas_ray.monitoring.system import System
    from rlaas_ray.store import trackers

    told = {"seed": run.seed, **provenance.read(Path.cwd())}
    reporter.event("provenance", told)
    mode = environment.variable("WANDB_MODE") or ("online" if environment.variable("WANDB_API_KEY") else "offline")
    found = trackers.trackers(run, directory=directory, wandb_mode=mode)
    return trackers.Tracked(reporter, trackers=found, system=System().read), told


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Attempt:
    run: Run
    reporter: Reporter
    clock: Clock
    directory: Path
    stop: threading.Event
    client: httpx.Client
    data_url: str


def _train(attempt: _Attempt) -> dict[str, Any]:
    from rlaas_ray.specs.train import TrainSpec
    from rlaas_ray.train import runner

    # What lies in the run's own folder is at least as new as what the API was told before the last attempt died.
    at_hand = attempt.run.attempt > 1 and (attempt.directory / runner.CHECKPOINTS).is_dir()
    return runner.execute(
        document.parse(TrainSpec, attempt.run.spec),
        run_id=attempt.run.id,
        attempt=attempt.run.attempt,
        reporter=attempt.reporter,
        clock=attempt.clock,
        directory=attempt.directory,
        stop=attempt.stop,
        checkpoint=None if at_hand else attempt.run.checkpoint_uri,
        ray_address=environment.variable("RAY_ADDRESS"),
        data_url=attempt.data_url,
    )


def _tune(attempt: _Attempt) -> dict[str, Any]:
    from rlaas_ray.specs.tune import TuneSpec
    from rlaas_ray.tune import run

    return run.execute(
        document.parse(TuneSpec, attempt.run.spec),
        run_id=attempt.run.id,
        reporter=attempt.reporter,
        clock=attempt.clock,
        directory=attempt.directory,
        stop=attempt.stop,
        ray_address=environment.variable("RAY_ADDRESS"),
    )


def _optimize(attempt: _Attempt) -> dict[str, Any]:
    from rlaas_ray.jobs import searching
    from rlaas_ray.specs.optimize import OptimizeSpec

    given = searching.Given(
        run_id=attempt.run.id,
        attempt=attempt.run.attempt,
        reporter=attempt.reporter,
        clock=attempt.clock,
        directory=attempt.directory,
        checkpoint=attempt.run.checkpoint_uri,
        lookup=lambda run_id: _document(attempt.client, run_id),
    )
    spec = document.parse(OptimizeSpec, attempt.run.spec)
    elsewhere = functools.partial(_on_ray, clock=attempt.clock)
    return searching.execute(spec, given, stop=attempt.stop, elsewhere=elsewhere)


@contextlib.contextmanager
def _on_ray(spec: OptimizeSpec, problem: Any, *, clock: Clock) -> Iterator[Evaluate]:
    """Rows of the problem evaluated by actors, on the Ray of this runtime or on a small one of their own."""
    from rlaas_ray.jobs import evaluators
    from rlaas_ray.train import cluster

    workers = spec.workers or os.cpu_count() or 1
    with cluster.joined(workers, name=spec.problem, address=environment.variable("RAY_ADDRESS")) as cpus:
        evaluator = evaluators.RayEvaluator(spec, problem=problem, workers=workers, cpus=cpus, clock=clock)
        try:
            yield evaluator
        finally:
            evaluator.close()


def _evaluate(attempt: _Attempt) -> dict[str, Any]:
    from rlaas_ray.envs import registry
    from rlaas_ray.evaluation import episodes
    from rlaas_ray.policies import bundle
    from rlaas_ray.specs.evaluate import EvaluateSpec

    registry.register()
    spec = document.parse(EvaluateSpec, attempt.run.spec)
    path = _bundle(spec.policy, client=attempt.client, directory=attempt.directory)
    policy = bundle.load(path, preference=spec.preference)
    told = Progress(message=f"{spec.episodes} episodes of {spec.policy}")
    attempt.reporter.beat(told)

    def make_vector(num_envs: int) -> Any:
        return registry.make_vector(
            spec.env, num_envs=num_envs, seed=spec.seed, mode=spec.mode, weights=spec.weights, config=spec.env_arguments
        )

    def halted() -> bool:
        return attempt.stop.is_set() or attempt.reporter.beat(told) == "stopping"

    if spec.front:
        from rlaas_ray.train import fronts

        count, seed = spec.episodes, spec.seed
        front = fronts.measure(policy, make_vector=make_vector, episodes=count, seed=seed, halted=halted)
        return {**front, "policy": spec.policy, "env": spec.env}
    found = episodes.evaluate(policy, make_vector=make_vector, episodes=spec.episodes, seed=spec.seed, halted=halted)
    return {**found.to_json(), "policy": spec.policy, "env": spec.env}


_WORK: Mapping[str, Callable[[_Attempt], dict[str, Any]]] = {
    "train": _train,
    "tune": _tune,
    "optimize": _optimize,
    "evaluate": _evaluate,
}


def _document(client: httpx.Client, run_id: str, *, key: str | None = None) -> Mapping[str, Any]:
    """Another run, as the API tells it; under `key` where the client carries none."""
    answer = client.get(f"/api/v1/runs/{run_id}", headers={"Authorization": f"Bearer {key}"} if key else {})
    if not answer.is_success:
        raise from_problem(answer.json())
    found: Mapping[str, Any] = answer.json()
    return found


def _bundle(reference: str, *, client: httpx.Client, directory: Path) -> Path:
    """The version's bundle: on the disk that this machine shares with the API, else fetched."""
    answer = client.get(f"/api/v1/models/{reference}")
    if not answer.is_success:
        raise from_problem(answer.json())
    path = Path(answer.json()["path"])
    if path.exists():
        return path
    packed = client.get(f"/api/v1/models/{reference}/bundle")
    if not packed.is_success:
        raise from_problem(packed.json())
    directory.mkdir(parents=True, exist_ok=True)
    fetched = directory / "policy.tar.zst"
    fetched.write_bytes(packed.content)
    return fetched


def _places(settings: Settings, *, clock: Clock, url: str) -> Mapping[str, Place]:
    from rlaas_ray.jobs import hosting
    from rlaas_ray.jobs.here import HerePlace

    world = _runtime(settings.home)
    base = environment.child_environment(RLAAS_HOME=str(settings.home))
    joined = {**base, **(world.ray.environment() if world is not None else {})}
    folder = settings.home / "runs"
    here = HerePlace(directory=folder, url=url, environment=joined, clock=clock)
    launch = hosting.Launcher(folder=settings.home / "hosts", url=url, environment=joined)
    shared = hosting.HostPlace(launch=launch, runs=folder, other=here, clock=clock, cores=os.cpu_count() or 1)
    found: dict[str, Place] = {"here": shared}
    if world is not None:
        from rlaas_ray.jobs import ray as ray_jobs

        client = ray_jobs.connect(world.ray.dashboard, token=_token(world))
        told = {"RLAAS_HOME": str(settings.home), **world.ray.environment()}
        found["ray"] = ray_jobs.RayPlace(client=client, url=url, environment=told, clock=clock)
    return found


def _pools(settings: Settings, *, url: str, key: Callable[[str], str]) -> Pools | None:
    from rlaas_ray.serve import pools

    world = _runtime(settings.home)
    if world is None:
        return None

    def told(pool: str) -> Mapping[str, Any]:
        return {
            "pool": pool,
            "home": str(settings.home),
            "data": settings.data,
            "api": url,
            "key": key(pool),
            "port": world.ports["native"] if pool == pools.POLICIES else 0,
            "ingress": {"host": "127.0.0.1", "port": world.ports["ingress"]},
        }

    return pools.ServePools(
        address=world.ray.address,
        dashboard=world.ray.dashboard,
        settings=told,
        environment=environment.child_environment(RLAAS_HOME=str(settings.home), **world.ray.environment()),
        token=_token(world),
    )


def _token(world: runtime.Runtime) -> str | None:
    return Path(world.ray.token_path).read_text().strip() if world.ray.token_path else None


def _mirror(settings: Settings) -> Mirror:
    from rlaas_ray.store.mirror import MlflowMirror

    return MlflowMirror(settings.tracking)


def _runtime(home: Path) -> runtime.Runtime | None:
    try:
        return runtime.from_json(json.loads((home / runtime.FILE).read_text()))
    except (OSError, ValueError, InvalidInput):
        return None


def _ingress(home: Path, pool: str) -> str | None:
    world = _runtime(home)
    if world is None or "ingress" not in world.ports:
        return None
    prefix = "" if pool == "policies" else f"/pools/{pool}"
    return f"http://127.0.0.1:{world.ports['ingress']}{prefix}"


def _own_url(settings: Settings) -> str:
    """How run processes reach this API: RLAAS_URL, else the port that uvicorn was started with, on this machine."""
    if settings.url:
        return settings.url
    options = sys.argv
    port = next((options[i + 1] for i, word in enumerate(options[:-1]) if word == "--port"), "8000")
    return f"http://127.0.0.1:{port}"


def _own_modules(home: Path) -> None:
    """A user's own module travels to `$RLAAS_HOME/modules`; after everything installed, so that it hides nothing."""
    folder = str(home / MODULES)
    if folder not in sys.path:
        sys.path.append(folder)


def _spaces(home: Path, env: str) -> tuple[Any, Any]:
    from rlaas_ray.envs import registry

    _own_modules(home)
    registry.register()
    return registry.spaces(env)


def _check_env(env: str) -> None:
    from rlaas_ray.envs import registry

    registry.register()
    if ":" not in env and env not in registry.known():
        cure = nearest(env, registry.known())
        raise NotFound("no such env", given=env, expected="a Gymnasium id or module:Class", cure=cure, pointer="/env")


def _covariates(env: str) -> Any:
    from rlaas_ray.envs import registry
    from rlaas_ray.envs.ran import dynamics

    return dynamics.covariates if env == registry.RAN else None


def _environments() -> Sequence[Mapping[str, Any]]:
    from rlaas_ray.envs import registry
    from rlaas_ray.policies import builtin, spaces

    registry.register()
    found: list[Mapping[str, Any]] = []
    ours = registry.ours()
    for env in ours:
        made = registry.make(env)
        found.append(
            {
                "id": env,
                "observation_space": spaces.to_json(made.observation_space),
                "action_space": spaces.to_json(made.action_space),
                "objectives": [list(one) for one in made.metadata.get("objectives", [])],
                "baselines": builtin.known(env),
            }
        )
        made.close()  # type: ignore[no-untyped-call]  # Gymnasium leaves it untyped
    return [*found, *({"id": env} for env in registry.known() if env not in ours)]
