"""The audit chain: published vectors, and the eight attacks on 25 rows with checkpoints at 10 and 20."""

import dataclasses
import json

import pytest
import rfc8785

from rlaas_ray.store import audit

SIGNER = audit.Signer(bytes(32))
KEYS = frozenset([SIGNER.public])


def body(i: int) -> bytes:
    return rfc8785.dumps(
        {
            "time": f"2026-01-01T00:00:{i:02d}Z",
            "actor": "key:abc",
            "action": "runs.create",
            "object": f"run:{i}",
            "result": "ok",
            "detail": {"x": 0.1 * i},
            "seq": i + 1,
        }
    )


def chain(bodies: list[bytes]) -> list[audit.Row]:
    made, prev = [], audit.ZERO
    for text in bodies:
        found = audit.row_hash(prev, text)
        made.append(audit.Row(seq=len(made) + 1, body=text, prev=prev.hex(), hash=found.hex()))
        prev = found
    return made


def signed(rows: list[audit.Row], *, signer: audit.Signer = SIGNER) -> list[audit.Checkpoint]:
    made: list[audit.Checkpoint] = []
    for seq in (10, 20):
        before = made[-1] if made else None
        time = f"2026-01-01T00:01:{seq}Z"
        made.append(audit.sign(signer, seq=seq, hash=rows[seq - 1].hash, time=time, before=before))
    return made


ROWS = chain([body(i) for i in range(25)])
CHECKS = signed(ROWS)


def verify(rows, *, checkpoints=CHECKS, anchor=None) -> tuple[str | None, int | None]:
    found = audit.verify(rows, checkpoints=checkpoints, anchor=anchor, keys=KEYS)
    return found.fault, found.seq


def test_the_first_hash_is_the_published_vector() -> None:
    assert ROWS[0].hash == "5e4f4d330002a0d8538d5777336e391a18c70a213a46d3e5ef36dffad9526d19"


def test_what_nobody_touched_verifies_and_counts_the_unsigned_tail() -> None:
    found = audit.verify(ROWS, checkpoints=CHECKS, anchor=CHECKS[-1], keys=KEYS)
    assert found.ok
    assert (found.rows, found.checkpoints, found.unsigned) == (25, 2, 5)


def test_attack_1_a_changed_field_is_altered() -> None:
    rows = list(ROWS)
    rows[6] = dataclasses.replace(rows[6], body=rows[6].body.replace(b'"ok"', b'"no"'))
    assert verify(rows) == ("altered", 7)


def test_attack_2_a_deleted_row_is_a_gap() -> None:
    assert verify(ROWS[:6] + ROWS[7:]) == ("gap", 7)


def test_attack_3_a_duplicated_row_is_a_gap() -> None:
    assert verify([*ROWS[:7], ROWS[6], *ROWS[7:]]) == ("gap", 8)


@pytest.mark.parametrize("numbered", [False, True])
def test_attack_4_swapped_rows_are_a_gap_also_when_their_numbers_are_written_anew(numbered: bool) -> None:
    rows = list(ROWS)
    rows[6], rows[7] = rows[7], rows[6]
    if numbered:
        rows = [dataclasses.replace(row, seq=i + 1) for i, row in enumerate(rows)]
    assert verify(rows) == ("gap", 7)


def test_attack_5_a_tail_cut_below_a_checkpoint_is_truncated() -> None:
    assert verify(ROWS[:18]) == ("truncated", 20)


def forged() -> list[audit.Row]:
    bodies = [row.body for row in ROWS]
    bodies[6] = bodies[6].replace(b'"ok"', b'"no"')
    return chain(bodies)


def test_attack_6_a_chain_built_anew_is_rewritten_at_the_next_checkpoint() -> None:
    assert verify(forged()) == ("rewritten", 10)


def test_attack_7_checkpoints_signed_by_another_key_are_refused() -> None:
    other = audit.Signer(bytes([1] * 32))
    assert verify(forged(), checkpoints=signed(forged(), signer=other)) == ("bad-signature", 10)


def test_attack_8_a_tail_cut_with_its_checkpoints_is_seen_by_the_anchor_alone() -> None:
    assert verify(ROWS[:18], checkpoints=CHECKS[:1]) == (None, None)
    assert verify(ROWS[:18], checkpoints=CHECKS[:1], anchor=CHECKS[-1]) == ("truncated-vs-anchor", 20)


def test_a_checkpoint_left_out_of_the_middle_breaks_their_chain() -> None:
    assert verify(ROWS, checkpoints=CHECKS[1:]) == ("checkpoint-gap", 20)


def test_rows_that_are_not_canonical_are_altered_even_with_a_right_hash() -> None:
    loose = json.dumps(json.loads(ROWS[-1].body), indent=1).encode()
    prev = ROWS[-2].hash
    row = audit.Row(seq=25, body=loose, prev=prev, hash=audit.row_hash(bytes.fromhex(prev), loose).hex())
    assert verify([*ROWS[:-1], row]) == ("altered", 25)


def test_a_torn_last_line_of_the_anchor_is_not_an_anchor(tmp_path) -> None:
    anchor = audit.FileAnchor(tmp_path / "log" / "anchor.jsonl")
    assert anchor.last() is None
    for check in CHECKS:
        anchor.append(check)
    with (tmp_path / "log" / "anchor.jsonl").open("ab") as file:
        file.write(b'{"body":')
    assert anchor.last() == CHECKS[-1]
