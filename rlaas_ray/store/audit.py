"""The audit log: a hash chain over canonical rows, and Ed25519 checkpoints that a copy outside the database anchors.

Appended by control inside the transaction of the change itself. Verification reads rows one by one and trusts none of them.
Who holds the database can rewrite what came after the last checkpoint; nothing here hides that (`unsigned` counts it).
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson
import rfc8785
import sqlalchemy as sa
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rlaas_ray.store.database import Connection
from rlaas_ray.store.tables import audit, audit_checkpoints

ZERO = bytes(32)
CHECKPOINT_EACH = 1000
_ROW = b"rlaas-audit-v1\x00"
_CHECK = b"rlaas-checkpoint-v1\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Who did what to what. `detail` holds JSON values; integers beyond 2^53 go in as text."""

    actor: str
    action: str
    object: str
    result: str = "ok"
    request_id: str | None = None
    detail: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One stored row, as bytes were stored."""

    seq: int
    body: bytes
    prev: str
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A signed statement that row `seq` had this hash."""

    seq: int
    body: bytes
    signature: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """`fault` is None when all holds, else `altered`, `gap`, `broken`, `truncated`, `rewritten`, `bad-signature`, ..."""

    fault: str | None
    seq: int | None
    rows: int
    checkpoints: int
    unsigned: int

    @property
    def ok(self) -> bool:
        return self.fault is None


class Signer:
    """The key that signs checkpoints."""

    def __init__(self, private: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(private)

    @property
    def public(self) -> str:
        """The public key, hex."""
        return self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    def sign(self, message: bytes) -> str:
        """The signature, lower-case hex."""
        return self._key.sign(message).hex()


class Anchor(Protocol):
    """Where copies of checkpoints lie outside the database."""

    def append(self, checkpoint: Checkpoint) -> None: ...

    def last(self) -> Checkpoint | None: ...


class FileAnchor:
    """One JSON line a checkpoint."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, checkpoint: Checkpoint) -> None:
        """Add a copy."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = {"body": orjson.loads(checkpoint.body), "signature": checkpoint.signature}
        with self._path.open("ab") as file:
            file.write(rfc8785.dumps(line) + b"\n")

    def last(self) -> Checkpoint | None:
        """The newest copy; a torn last line is not one."""
        if not self._path.exists():
            return None
        for text in reversed(self._path.read_bytes().split(b"\n")[:-1]):
            line = orjson.loads(text)
            return Checkpoint(seq=line["body"]["seq"], body=rfc8785.dumps(line["body"]), signature=line["signature"])
        return None


def row_hash(prev: bytes, body: bytes) -> bytes:
    """hash_n = SHA-256("rlaas-audit-v1" 0x00 hash_{n-1} JCS(body_n))."""
    return hashlib.sha256(_ROW + prev + body).digest()


def append(tx: Connection, entry: Entry, *, now_us: int) -> int:
    """Add a row; gives its seq. The chain's end is read in the transaction that holds the write lock."""
    last = tx.execute(sa.select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)).one_or_none()
    seq, prev = (last.seq + 1, last.hash) if last is not None else (1, ZERO.hex())
    body = rfc8785.dumps(_body(entry, seq=seq, time=iso(now_us)))
    tx.execute(
        audit.insert().values(
            seq=seq, time_us=now_us, body=body.decode(), prev=prev, hash=row_hash(bytes.fromhex(prev), body).hex()
        )
    )
    return int(seq)


def checkpoint(tx: Connection, signer: Signer, *, now_us: int) -> Checkpoint | None:
    """Sign the end of the chain; None where nothing came since the last. The caller anchors it after the commit."""
    last = tx.execute(sa.select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1)).one_or_none()
    before = last_checkpoint(tx)
    if last is None or (before is not None and before.seq >= last.seq):
        return None
    made = sign(signer, seq=last.seq, hash=last.hash, time=iso(now_us), before=before)
    tx.execute(audit_checkpoints.insert().values(seq=made.seq, body=made.body.decode(), signature=made.signature))
    return made


def sign(signer: Signer, *, seq: int, hash: str, time: str, before: Checkpoint | None) -> Checkpoint:  # noqa: A002
    """The checkpoint after `before`."""
    body = rfc8785.dumps({"seq": seq, "hash": hash, "time": time, "key": signer.public, "prev": _link(before)})
    return Checkpoint(seq=seq, body=body, signature=signer.sign(_CHECK + body))


def unsigned(tx: Connection) -> int:
    """Rows after the last checkpoint."""
    last = tx.execute(sa.select(sa.func.max(audit.c.seq))).scalar() or 0
    before = last_checkpoint(tx)
    return int(last) - (before.seq if before is not None else 0)


def last_checkpoint(tx: Connection) -> Checkpoint | None:
    """The newest checkpoint."""
    row = tx.execute(audit_checkpoints.select().order_by(audit_checkpoints.c.seq.desc()).limit(1)).one_or_none()
    return None if row is None else Checkpoint(seq=row.seq, body=row.body.encode(), signature=row.signature)


def last_checkpoint_us(tx: Connection) -> int:
    """When the newest signed row was written; the first row's time, or 0, before the first checkpoint."""
    seq = tx.execute(sa.select(sa.func.max(audit_checkpoints.c.seq))).scalar() or 1
    return int(tx.execute(sa.select(audit.c.time_us).where(audit.c.seq == seq)).scalar() or 0)


def rows(tx: Connection) -> Iterable[Row]:
    """All rows in order, streamed."""
    query = audit.select().order_by(audit.c.seq)
    for row in tx.execution_options(yield_per=1000).execute(query):
        yield Row(seq=row.seq, body=row.body.encode(), prev=row.prev, hash=row.hash)


def checkpoints(tx: Connection) -> list[Checkpoint]:
    """All checkpoints in order."""
    query = audit_checkpoints.select().order_by(audit_checkpoints.c.seq)
    return [Checkpoint(seq=r.seq, body=r.body.encode(), signature=r.signature) for r in tx.execute(query)]


def page(tx: Connection, *, before_seq: int | None, limit: int) -> list[dict[str, Any]]:
    """Bodies with their hashes, newest first."""
    query = audit.select().order_by(audit.c.seq.desc()).limit(limit)
    if before_seq is not None:
        query = query.where(audit.c.seq < before_seq)
    return [{**orjson.loads(row.body), "hash": row.hash} for row in tx.execute(query)]


def verify(
    stored: Iterable[Row], *, checkpoints: Sequence[Checkpoint], anchor: Checkpoint | None, keys: frozenset[str]
) -> Verification:
    """Everything that can be checked, in one pass over the rows; the first fault wins. `keys`: public keys that may sign."""
    want = {check.seq: check for check in checkpoints}
    anchored = None if anchor is None else orjson.loads(anchor.body)
    prev, seq, count, hashes = ZERO, 0, len(checkpoints), dict[int, str]()
    for row in stored:
        fault = _row_fault(row, seq=seq + 1, prev=prev)
        if fault is not None:
            return Verification(fault=fault, seq=seq + 1, rows=seq, checkpoints=count, unsigned=0)
        seq, prev = row.seq, bytes.fromhex(row.hash)
        if seq in want or (anchored is not None and seq == anchored["seq"]):
            hashes[seq] = row.hash
    signed = max(want, default=0)
    fault, at = _check_faults(checkpoints, hashes=hashes, rows=seq, keys=keys)
    if fault is None and anchored is not None and anchor is not None:
        fault, at = _anchor_fault(anchor, anchored, hashes=hashes, rows=seq, known=want)
    return Verification(fault=fault, seq=at, rows=seq, checkpoints=count, unsigned=max(seq - signed, 0))


def iso(time_us: int) -> str:
    """UTC in RFC 3339 with microseconds."""
    when = dt.datetime.fromtimestamp(time_us / 1e6, tz=dt.UTC)
    return when.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _body(entry: Entry, *, seq: int, time: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "seq": seq,
        "time": time,
        "actor": entry.actor,
        "action": entry.action,
        "object": entry.object,
        "result": entry.result,
    }
    if entry.request_id is not None:
        body["request_id"] = entry.request_id
    if entry.detail is not None:
        body["detail"] = dict(entry.detail)
    return body


def _row_fault(row: Row, *, seq: int, prev: bytes) -> str | None:
    if row.seq != seq:
        return "gap"
    try:
        body = orjson.loads(row.body)
        canonical = rfc8785.dumps(body) == row.body
    except (orjson.JSONDecodeError, rfc8785.CanonicalizationError):
        return "altered"
    if canonical and body.get("seq") != seq:
        return "gap"  # whole rows changed places
    if not canonical or row_hash(bytes.fromhex(row.prev), row.body).hex() != row.hash:
        return "altered"
    return None if row.prev == prev.hex() else "broken"


def _check_faults(
    checks: Sequence[Checkpoint], *, hashes: Mapping[int, str], rows: int, keys: frozenset[str]
) -> tuple[str | None, int | None]:
    before: Checkpoint | None = None
    for check in checks:
        body = orjson.loads(check.body)
        if body["key"] not in keys or not _signed(check, body["key"]):
            return "bad-signature", check.seq
        if (
            body["prev"] != _link(before)
            or body["seq"] != check.seq
            or (before is not None and check.seq <= before.seq)
        ):
            return "checkpoint-gap", check.seq
        if check.seq > rows:
            return "truncated", check.seq
        if hashes.get(check.seq) != body["hash"]:
            return "rewritten", check.seq
        before = check
    return None, None


def _anchor_fault(
    anchor: Checkpoint,
    body: Mapping[str, Any],
    *,
    hashes: Mapping[int, str],
    rows: int,
    known: Mapping[int, Checkpoint],
) -> tuple[str | None, int | None]:
    seq = int(body["seq"])
    if seq > rows or seq not in known:
        return "truncated-vs-anchor", seq
    if hashes.get(seq) != body["hash"] or known[seq].signature != anchor.signature:
        return "rewritten-vs-anchor", seq
    return None, None


def _signed(check: Checkpoint, key: str) -> bool:
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        public.verify(bytes.fromhex(check.signature), _CHECK + check.body)
    except (InvalidSignature, ValueError):
        return False
    return True


def _link(before: Checkpoint | None) -> str:
    if before is None:
        return "0" * 64
    whole = rfc8785.dumps({"body": orjson.loads(before.body), "sig": before.signature})
    return hashlib.sha256(whole).hexdigest()
