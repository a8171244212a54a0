"""Every error the product raises: what was given, what was expected, and the cure.

One table for every door: the CLI takes `exit_code`, the API `status` and `slug`, the SDK raises the class again from the
problem document. Called everywhere; imports nothing.

    RlaasError                       exit  HTTP
      InvalidInput                      2   422   a value is wrong
        BadJson                         2   400   the body is not JSON, or holds NaN or infinity
        UnknownField                    2   422   a key that no document of this kind has
        BadObservation                  2   422   shape, dtype or range of an observation
        TooLarge                        2   413   body, batch or file over its limit
        IdempotencyMismatch             2   422   the Idempotency-Key was used with another body
      NotFound                          2   404   no such endpoint, version, run, env, decision
      MethodNotAllowed                  2   405
      MediaType                         2   415
      Conflict                          1   409   the state does not allow it (now)
        AlreadyExists                   1   409
        RewardConflict                  1   409   another value is already kept for (decision_id, step)
        LostLease                       1   409   somebody else owns the run
      Refused                           3   409   a gate said no: verification, parity, a hold, a rejection
        Tampered                        3   409   a bundle is not what its manifest says
      Unauthorized                      2   401
      Forbidden                         2   403
      TimedOut                          1   408
      Overloaded                        1   429
      Unavailable                       1   503   the thing that answers is not up (yet)
      WorkFailed                        1   500   a run, a search, an engine failed
        EngineFailed                    1   500   a policy's engine raised or gave non-finite numbers
      NotBuilt                          1   501   the product does not have this; it says so
      Checkpointed                     75   500   SIGTERM: work is saved and can be resumed
      Interrupted                     130   500   Ctrl-C: stopped cleanly, says how to resume
"""

from __future__ import annotations

import difflib
from typing import Any, ClassVar


class RlaasError(Exception):
    """What every error carries: subject, given, expected, cure; `pointer` is the JSON pointer of the field, if there is one."""

    exit_code: ClassVar[int] = 1
    status: ClassVar[int] = 500
    slug: ClassVar[str] = "error"

    def __init__(
        self,
        subject: str,
        *,
        given: Any = None,
        expected: str | None = None,
        cure: str | None = None,
        pointer: str | None = None,
    ) -> None:
        self.subject = subject
        self.given = given
        self.expected = expected
        self.cure = cure
        self.pointer = pointer
        super().__init__(self.detail)

    @property
    def detail(self) -> str:
        """One sentence for people: subject, given, expected."""
        parts = [self.subject]
        if self.given is not None:
            parts.append(f"given {_short(self.given)}")
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        return "; ".join(parts)

    @property
    def title(self) -> str:
        """The class of the problem in words, e.g. `bad observation`."""
        return self.slug.replace("-", " ")

    def to_problem(self) -> dict[str, Any]:
        """The RFC 9457 document, without `request_id` (the door that sends it adds that)."""
        problem: dict[str, Any] = {
            "type": f"/docs/problems/{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "cure": self.cure,
        }
        if self.pointer is not None:
            problem["errors"] = [{"pointer": self.pointer, "detail": self.detail}]
        return problem

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross Ray's process borders; keyword-only fields need telling.
        return (_rebuild, (type(self), dict(vars(self))))


class InvalidInput(RlaasError):
    exit_code, status, slug = 2, 422, "invalid-input"


class BadJson(InvalidInput):
    status, slug = 400, "bad-json"


class UnknownField(InvalidInput):
    slug = "unknown-field"


class BadObservation(InvalidInput):
    slug = "bad-observation"


class TooLarge(InvalidInput):
    status, slug = 413, "too-large"


class IdempotencyMismatch(InvalidInput):
    slug = "idempotency-mismatch"


class NotFound(RlaasError):
    exit_code, status, slug = 2, 404, "not-found"


class MethodNotAllowed(RlaasError):
    exit_code, status, slug = 2, 405, "method"


class MediaType(RlaasError):
    exit_code, status, slug = 2, 415, "media-type"


class Conflict(RlaasError):
    exit_code, status, slug = 1, 409, "conflict"


class AlreadyExists(Conflict):
    slug = "already-exists"


class RewardConflict(Conflict):
    slug = "reward-conflict"


class LostLease(Conflict):
    slug = "lost-lease"


class Refused(RlaasError):
    exit_code, status, slug = 3, 409, "refused"


class Tampered(Refused):
    slug = "tampered"


class Unauthorized(RlaasError):
    exit_code, status, slug = 2, 401, "unauthorized"


class Forbidden(RlaasError):
    exit_code, status, slug = 2, 403, "forbidden"


class TimedOut(RlaasError):
    status, slug = 408, "timeout"


class Overloaded(RlaasError):
    status, slug = 429, "overload"


class Unavailable(RlaasError):
    status, slug = 503, "unavailable"


class WorkFailed(RlaasError):
    slug = "work-failed"


class EngineFailed(WorkFailed):
    slug = "engine-failed"


class NotBuilt(RlaasError):
    status, slug = 501, "not-built"


class Checkpointed(RlaasError):
    exit_code, slug = 75, "checkpointed"


class Interrupted(RlaasError):
    exit_code, slug = 130, "interrupted"


def all_errors() -> dict[str, type[RlaasError]]:
    """Slug -> class, for the doors that turn a problem document back into an error."""
    found: dict[str, type[RlaasError]] = {}
    queue: list[type[RlaasError]] = [RlaasError]
    while queue:
        error = queue.pop()
        found.setdefault(error.slug, error)  # a door may refine a class; the slug stands for the one above
        queue.extend(error.__subclasses__())
    return found


def from_problem(problem: dict[str, Any]) -> RlaasError:
    """The error that a problem document states; an unknown slug becomes the plain class with the same words."""
    slug = str(problem.get("type", "")).rsplit("/", 1)[-1]
    error = all_errors().get(slug, RlaasError)
    return error(str(problem.get("detail") or problem.get("title") or "error"), cure=problem.get("cure"))


def told(error: BaseException) -> dict[str, Any]:
    """Any error as the `error` of a run that failed by it: reason, detail, cure."""
    if isinstance(error, RlaasError):
        return {"reason": error.slug, "detail": error.detail, "cure": error.cure}
    return {"reason": type(error).__name__, "detail": str(error) or type(error).__name__, "cure": None}


def nearest(name: str, known: list[str]) -> str:
    """A cure for a name nobody knows: the nearest known one, else the list."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]!r}?"
    shown = ", ".join(sorted(known)[:12])
    return f"Known: {shown}{', ...' if len(known) > 12 else ''}."


def _rebuild(error: type[RlaasError], fields: dict[str, Any]) -> RlaasError:
    return error(fields["subject"], **{k: v for k, v in fields.items() if k != "subject"})


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else text[:157] + "..."
