"""What a run uses of its machine: read, never raised."""

from rlaas_ray.monitoring.system import System


def test_cpu_and_memory_of_this_process_are_read() -> None:
    system = System()
    sum(range(200_000))
    found = system.read()
    assert found["system_memory_bytes"] > 10_000_000
    assert found["system_cpu_percent"] >= 0.0
    assert found["system_free_bytes"] > 0
