"""One attempt of a training: env and plan, Ray or one process, iterations, progress, checkpoints, bundle, evaluation, version.

Called by wiring for a run process and by quickstart. Reports through a seams.Reporter; claiming and finishing the attempt are the
caller's. Never opens the database, never attaches to a Ray that it was not given.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rlaas_ray.errors import Interrupted, WorkFailed
from rlaas_ray.evaluation import episodes
from rlaas_ray.policies import bundle
from rlaas_ray.specs.runs import Progress
from rlaas_ray.specs.seams import Clock, Reporter
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import checkpoint as checkpoints
from rlaas_ray.train import export, families, fronts, ledger, threads
from rlaas_ray.train.checkpoint import Checkpoint
from rlaas_ray.train.doctor import Doctor
from rlaas_ray.train.multi_agent import together
from rlaas_ray.train.plans import Plan
from rlaas_ray.train.seam import Buffered, Build, LearnerLost, Narrating, Trained, Trainer
from rlaas_ray.train.unexported import Unexported
from rlaas_ray.train.worlds import Worlds
from rlaas_ray.train.worlds import of as worlds_of

REPORT_EVERY_S = 1.0
SLICE_S = 0.5
MAX_LOSSES = 3  # of the learner, at one iteration
CHECKPOINTS, BUNDLE, KEY, BUFFER = "checkpoints", "bundle", "checkpoint.key", "buffer"
_EVALUATION_STREAM = 0xE7A1


@dataclass(slots=True, kw_only=True, eq=False)
class _Run:
    spec: TrainSpec
    plan: Plan
    worlds: Worlds
    run_id: str
    reporter: Reporter
    clock: Clock
    directory: Path
    stop: threading.Event
    key: bytes
    on_progress: Callable[[Progress], None] | None
    report_every_s: float
    data_url: str | None
    started_s: float
    steps_before: int = 0
    saved: Path | None = None
    saved_iteration: int = -1
    stopping: bool = False
    doctor: Doctor = field(default_factory=Doctor)


def execute(  # noqa: PLR0913  # a run's whole context, handed in by the root
    spec: TrainSpec,
    *,
    run_id: str,
    attempt: int,
    reporter: Reporter,
    clock: Clock,
    directory: Path,
    stop: threading.Event,
    checkpoint: str | None = None,
    ray_address: str | None = None,
    key_file: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    report_every_s: float = REPORT_EVERY_S,
    data_url: str | None = None,
) -> dict[str, Any]:
    """Train; gives the result: `state` is `succeeded` with bundle, version and evaluation, or `stopped` with a checkpoint.

    `directory` is the run's folder: checkpoints and the bundle are written below it. `checkpoint`: a folder to go on
    from; None on a second attempt means the newest below `directory`. `report_every_s`: 0 reports after every iteration.
    `data_url`: where the decision log is, for a `dataset` of it.
    Raises Interrupted on Ctrl-C, after a checkpoint.
    """
    worlds, plan = resolve(spec)
    directory.mkdir(parents=True, exist_ok=True)
    run = _Run(
        spec=spec,
        plan=plan,
        worlds=worlds,
        run_id=run_id,
        reporter=reporter,
        clock=clock,
        directory=directory,
        stop=stop,
        key=_key(key_file or directory / KEY),
        on_progress=on_progress,
        report_every_s=report_every_s,
        data_url=data_url,
        started_s=clock.monotonic_s(),
    )
    lost_at: list[int] = []
    while True:
        try:
            return _once(run, attempt=attempt, checkpoint=checkpoint, ray_address=ray_address)
        except LearnerLost as lost:
            lost_at.append(run.saved_iteration)
            if lost_at.count(run.saved_iteration) >= MAX_LOSSES:  # no iteration in between: it is not bad luck
                raise
            reporter.event("learner_lost", {"detail": lost.detail, "iteration": run.saved_iteration})
            attempt, checkpoint = attempt + 1, None


def _once(run: _Run, *, attempt: int, checkpoint: str | None, ray_address: str | None) -> dict[str, Any]:
    """From a trainer's making to its end."""
    with _trainer(run, ray_address=ray_address) as trainer:
        _resume(run, trainer=trainer, attempt=attempt, checkpoint=checkpoint)
        try:
            _iterate(run, trainer=trainer)
        except KeyboardInterrupt:
            _save(run, trainer=trainer)
            raise Interrupted(
                f"training {run.run_id} interrupted",
                given=f"{trainer.ledger.steps} steps done",
                cure=f"`rlaas runs resume {run.run_id}` goes on from {run.saved}.",
            ) from None
        finished = ledger.finished(trainer.ledger, plan=run.plan)
        if run.stopping and not finished:
            return _result(run, trainer=trainer, state="stopped")
        try:
            return _finish(run, trainer=trainer)
        except (
            Interrupted
        ):  # the checkpoint of the last iteration is there; a resumed run has the evaluation alone to do
            return _result(run, trainer=trainer, state="stopped")


def resolve(spec: TrainSpec) -> tuple[Worlds, Plan]:
    """The worlds and the plan of a spec, nothing left open. Raises for what cannot be trained."""
    family = families.of(spec)
    worlds = worlds_of(spec)
    return worlds, family.resolve(spec, worlds)


@contextlib.contextmanager
def _trainer(run: _Run, *, ray_address: str | None) -> Iterator[Trainer]:
    # Slices end at checkpoints and reports that are due after every iteration.
    slice_s = SLICE_S if run.spec.checkpoint_every_s > 0 and run.report_every_s > 0 else run.plan.slice_s
    with threads.one(), contextlib.ExitStack() as stack:
        actor_cpus, on_ray = 1.0, None
        if run.plan.actors:
            # Ray takes seconds to import: only a training that uses it waits for it.
            from rlaas_ray.train import cluster  # noqa: PLC0415

            run.reporter.event(
                "starting", {"num_env_runners": run.plan.num_env_runners, "num_learners": run.plan.num_learners}
            )
            actor_cpus = stack.enter_context(cluster.connected(run.plan, address=ray_address))
            from rlaas_ray.train.rllib import onray  # noqa: PLC0415 - after Ray's own settings are made

            on_ray = onray.OnRllib()
        trainer = families.of(run.spec).trainer(
            Build(
                spec=run.spec,
                plan=run.plan,
                worlds=run.worlds,
                directory=run.directory,
                slice_s=slice_s,
                actor_cpus=actor_cpus,
                data_url=run.data_url,
                ray=on_ray,
            )
        )
        stack.callback(trainer.stop)
        yield trainer


def _resume(run: _Run, *, trainer: Trainer, attempt: int, checkpoint: str | None) -> None:
    folder = run.directory / CHECKPOINTS
    if checkpoint is None and (attempt <= 1 or not checkpoints.found(folder)):
        return
    path = folder if checkpoint is None else Path(checkpoint.removeprefix("file://"))
    saved = checkpoints.load(path, key=run.key)
    trainer.load_state(saved.state, ledger=saved.ledger)
    run.steps_before = saved.ledger.steps
    run.saved_iteration = saved.ledger.iteration
    if isinstance(trainer, Buffered):
        trainer.load_buffer((path.parent if path.name.startswith("iteration-") else path) / BUFFER)
    run.reporter.event("resumed", {"steps": saved.ledger.steps, "iteration": saved.ledger.iteration, "from": str(path)})


def _iterate(run: _Run, *, trainer: Trainer) -> None:
    run.started_s = reported_s = saved_s = run.clock.monotonic_s()
    run.stopping = run.stop.is_set()
    while not ledger.finished(trainer.ledger, plan=run.plan) and not run.stopping:
        trainer.train()
        if isinstance(trainer, Narrating):
            for episode in trainer.episodes():
                run.reporter.event("episode", episode)
        now_s = run.clock.monotonic_s()
        if now_s - saved_s >= run.spec.checkpoint_every_s:
            _save(run, trainer=trainer)
            saved_s = run.clock.monotonic_s()
        run.stopping |= run.stop.is_set()
        if now_s - reported_s >= run.report_every_s or run.stopping:
            reported_s = now_s
            _report(run, trainer=trainer)
    _save(run, trainer=trainer)
    _report(run, trainer=trainer)


def _report(run: _Run, *, trainer: Trainer) -> None:
    done = trainer.ledger
    progress = _progress(run, trainer=trainer)
    row: dict[str, float | int | None] = {
        "step": done.steps,
        "time_us": run.clock.now_us(),
        "episodes": done.episodes,
        "iteration": done.iteration,
        "episode_return_mean": done.episode_return_mean,
        "episode_length_mean": done.episode_length_mean,
        "steps_per_s": progress.steps_per_s,
        "cpu_s": done.cpu_s,
        "env_failures": done.failures,
        **trainer.stats,
    }
    run.reporter.metrics([row])
    for finding in run.doctor.look(row):
        run.reporter.event("doctor", finding.to_json())
    run.stopping |= run.reporter.beat(progress) == "stopping"
    if run.on_progress is not None:
        run.on_progress(progress)


def _progress(run: _Run, *, trainer: Trainer, message: str | None = None) -> Progress:
    done = trainer.ledger
    elapsed_s = run.clock.monotonic_s() - run.started_s
    rate = (done.steps - run.steps_before) / elapsed_s if elapsed_s > 0 else None
    fraction = ledger.fraction(done, plan=run.plan)
    total = run.plan.total_timesteps
    eta_s = None
    if rate and total is not None:
        eta_s = max(0.0, (total - done.steps) / rate)
    elif fraction > 0 and run.steps_before == 0:
        eta_s = elapsed_s * (1 - fraction) / fraction
    return Progress(
        fraction=fraction,
        steps=done.steps,
        steps_total=total,
        steps_per_s=rate,
        eta_s=eta_s,
        episode_return_mean=done.episode_return_mean,
        episodes=done.episodes,
        message=message,
    )


def _save(run: _Run, *, trainer: Trainer) -> None:
    done = trainer.ledger
    if done.iteration == run.saved_iteration:
        return
    run.saved = checkpoints.save(
        run.directory / CHECKPOINTS,
        Checkpoint(state=trainer.state(), ledger=done, spec_digest=run.spec.digest()),
        key=run.key,
    )
    if isinstance(trainer, Buffered):
        trainer.save_buffer(run.directory / CHECKPOINTS / BUFFER)
    run.saved_iteration = done.iteration
    if run.spec.checkpoint_every_s > 0:  # after every iteration would be an event for every iteration
        run.reporter.event("checkpoint", {"uri": str(run.saved), "steps": done.steps, "iteration": done.iteration})


def _finish(run: _Run, *, trainer: Trainer) -> dict[str, Any]:
    """Bundles, evaluation on worlds that training never saw, registration; one of each for each policy."""
    policies = trainer.policies()
    if not policies and isinstance(trainer, Unexported):
        return _undelivered(run, unexported=trainer, trainer=trainer)
    run.reporter.beat(_progress(run, trainer=trainer, message="evaluating"))
    deliver = _deliver_together if run.worlds.groups else _deliver_alone
    told = deliver(run, policies, trainer=trainer)
    result = _result(run, trainer=trainer, state="succeeded")
    return {**result, **told[""]} if list(told) == [""] else {**result, "policies": told}


def _undelivered(run: _Run, *, unexported: Unexported, trainer: Trainer) -> dict[str, Any]:
    """No bundle and no version, but the evaluation, and why."""
    run.reporter.beat(_progress(run, trainer=trainer, message="evaluating"))
    evaluation = _evaluation(run, policy=unexported.decider(), trainer=trainer)
    told = unexported.told()
    run.reporter.event("no_bundle", told)
    result = _result(run, trainer=trainer, state="succeeded")
    return {**result, "bundle": None, "digest": None, "version": None, "evaluation": evaluation, **told}


def _evaluation(run: _Run, *, policy: episodes.Decider, trainer: Trainer) -> dict[str, Any]:
    seed = _evaluation_seed(run)
    found = episodes.evaluate(
        policy,
        make_vector=lambda envs: run.worlds.make_flat(envs=envs, seed=seed),
        episodes=run.spec.evaluate.episodes,
        seed=seed,
        halted=_halted(run, told=_progress(run, trainer=trainer, message="evaluating")),
    )
    return found.to_json()


def _deliver_alone(run: _Run, policies: Mapping[str, Trained], *, trainer: Trainer) -> dict[str, dict[str, Any]]:
    found = {}
    for name, trained in policies.items():
        given = _contents(run, trained, worlds=run.worlds, name=name)
        told: dict[str, Any] = {}
        if given.preference is not None:
            told = {"front": _front(run, policy=bundle.in_memory(given), trainer=trainer)}
            given = export.preferring(given, weights=fronts.default_of(told["front"]))
        evaluation = _evaluation(run, policy=bundle.in_memory(given), trainer=trainer) | told
        found[name] = _written(run, given, name=name, evaluation=evaluation)
    return found


def _front(run: _Run, *, policy: bundle.LoadedPolicy, trainer: Trainer) -> dict[str, Any]:
    seed = _evaluation_seed(run)
    return fronts.measure(
        policy,
        make_vector=lambda envs: run.worlds.make_flat(envs=envs, seed=seed),
        seed=seed,
        halted=_halted(run, told=_progress(run, trainer=trainer, message="evaluating its front")),
    )


def _deliver_together(run: _Run, policies: Mapping[str, Trained], *, trainer: Trainer) -> dict[str, dict[str, Any]]:
    """Agents are measured together: what one earns depends on the others."""
    given = {
        group.policy: _contents(run, policies[group.policy], worlds=run.worlds.of_group(group), name=group.policy)
        for group in run.worlds.groups
    }
    loaded = {name: bundle.in_memory(contents) for name, contents in given.items()}
    visited = together.visited(loaded, worlds=run.worlds, seed=run.spec.seed, rows=export.VISITED)
    evaluation = together.evaluation(
        loaded,
        worlds=run.worlds,
        episodes=run.spec.evaluate.episodes,
        seed=_evaluation_seed(run),
        halted=_halted(run, told=_progress(run, trainer=trainer, message="evaluating")),
    )
    return {
        name: _written(run, export.seen(contents, observations=visited[name]), name=name, evaluation=evaluation)
        for name, contents in given.items()
    }


def _contents(run: _Run, trained: Trained, *, worlds: Worlds, name: str) -> bundle.BundleContents:
    return export.contents(
        run.spec, plan=run.plan, worlds=worlds, trained=trained, created_us=run.clock.now_us(), agent=name
    )


def _written(run: _Run, given: bundle.BundleContents, *, name: str, evaluation: dict[str, Any]) -> dict[str, Any]:
    target = _free(run.directory / (f"{BUNDLE}-{name}" if name else BUNDLE))
    digest = export.write(target, given, evaluation=evaluation)
    version = run.reporter.register(target, name=given.name, evaluation=evaluation)
    return {"bundle": str(target), "digest": digest, "version": dict(version), "evaluation": evaluation}


def _evaluation_seed(run: _Run) -> int:
    return int(np.random.SeedSequence([run.spec.seed, _EVALUATION_STREAM]).generate_state(1)[0] >> 2)


def _halted(run: _Run, *, told: Progress) -> Callable[[], bool]:
    """Whether the run is to stop, by signal or by the API, which is asked as often as in training."""
    asked_s = run.clock.monotonic_s()

    def halted() -> bool:
        nonlocal asked_s
        if run.clock.monotonic_s() - asked_s >= REPORT_EVERY_S:
            asked_s = run.clock.monotonic_s()
            run.stopping |= run.reporter.beat(told) == "stopping"
        return run.stopping or run.stop.is_set()

    return halted


def _result(run: _Run, *, trainer: Trainer, state: str) -> dict[str, Any]:
    done = trainer.ledger
    mean = done.episode_return_mean
    return {
        "state": state,
        "path": "stock" if run.spec.fast == "off" else "columnar",
        "steps": done.steps,
        "episodes": done.episodes,
        "iterations": done.iteration,
        "return": mean,
        "episode_return_mean": mean,
        "cpu_s": done.cpu_s,
        "wall_s": run.clock.monotonic_s() - run.started_s,
        "env_failures": done.failures,
        "findings": [finding.to_json() for finding in run.doctor.findings],
        "checkpoint_uri": None if run.saved is None else str(run.saved),
    }


def _free(path: Path) -> Path:
    """`path`, or the next of `path-2`, ... that is not there: an earlier attempt may have written one."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def _key(path: Path) -> bytes:
    """The key that signs checkpoints; made at the first use."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_hex(32).encode())
    key = path.read_bytes()
    if len(key) < 32:
        raise WorkFailed(f"key file {path}", given=f"{len(key)} bytes", expected="32 bytes or more", cure="Delete it.")
    return key
