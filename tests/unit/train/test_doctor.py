"""The doctor names what is wrong, once, with a cure; and keeps quiet about a training that goes well."""

import pytest

from rlaas_ray.train import doctor

WELL = {
    "entropy": 0.6,
    "mean_kl": 0.01,
    "clipped_share": 0.1,
    "vf_loss": 3.0,
    "dead_units": 0.02,
    "sample_share": 0.5,
    "q_mean": 5.0,
    "staleness_mean": 1.0,
    "episode_return_mean": 20.0,
}


def told(rows) -> list[str]:
    seen = doctor.Doctor()
    return [finding.name for row in rows for finding in seen.look(row)]


def test_a_training_that_goes_well_hears_nothing() -> None:
    assert told([WELL] * 50) == []


@pytest.mark.parametrize(
    ("field", "values", "name"),
    [
        ("entropy", [0.69] + [0.01] * 20, "entropy_collapse"),
        ("mean_kl", [0.2] * 20, "kl_high"),
        ("clipped_share", [0.6] * 20, "clipped"),
        ("vf_loss", [1.0] * 10 + [1e4] * 20, "values_explode"),
        ("q_mean", [1.0] * 10 + [1e5] * 20, "values_explode"),
        ("dead_units", [0.9] * 20, "dead_units"),
        ("staleness_mean", [40.0] * 20, "stale"),
        ("sample_share", [0.95] * 20, "sampling_bound"),
        ("sample_share", [0.05] * 20, "learner_bound"),
        ("vf_loss", [1.0] * 5 + [float("nan")], "not_finite"),
    ],
)
def test_each_fault_is_named_once_with_numbers_and_a_cure(field: str, values: list[float], name: str) -> None:
    rows = [{**WELL, field: value} for value in values]
    assert told(rows) == [name]
    seen = doctor.Doctor()
    for row in rows:
        seen.look(row)
    (finding,) = seen.findings
    assert finding.cure
    assert finding.to_json()["words"] == finding.words


def test_a_policy_that_grows_sure_while_it_gets_better_is_left_alone() -> None:
    rows = [{**WELL, "entropy": 0.69 * 0.7**i, "episode_return_mean": 10.0 + i} for i in range(40)]
    assert told(rows) == []


def test_one_bad_row_is_not_a_finding() -> None:
    assert told([WELL] * 12 + [{**WELL, "mean_kl": 0.5, "clipped_share": 0.9}] + [WELL] * 12) == []


def test_columns_that_an_algorithm_does_not_have_are_nothing_to_say() -> None:
    assert told([{"episode_return_mean": None, "steps_per_s": 5.0}] * 30) == []


def test_a_run_that_is_over_is_reviewed_from_its_columns() -> None:
    columns = {"mean_kl": [0.2] * 30, "entropy": [None] * 30, "time": [1.7e9] * 30}
    assert [finding.name for finding in doctor.review(columns)] == ["kl_high"]
