import pytest

from s3dlio.storage.requests.latencies import Latencies


def test_nothing_is_slow_before_enough_is_known():
    latencies = Latencies(95)
    for _ in range(31):
        latencies.note(1000, 1.0)
        assert latencies.threshold(1000) is None
    latencies.note(1000, 1.0)
    assert latencies.threshold(1000) == 1.0


@pytest.mark.parametrize(("percentile", "expected"), [(50, 32), (95, 60), (99, 63), (99.9, 63)])
def test_the_percentile(percentile, expected):
    latencies = Latencies(percentile)
    for seconds in range(64):
        latencies.note(1, float(seconds))
    assert latencies.threshold(1) == expected


def test_sizes_are_kept_apart_by_powers_of_two():
    latencies = Latencies(50)
    for _ in range(32):
        latencies.note(1000, 1.0)
        latencies.note(100_000, 5.0)
        latencies.note(-1, 3.0)
    assert [latencies.threshold(size) for size in (513, 1000, 1023, 1024, 100_000, -1)] == [1, 1, 1, None, 5, 3]


def test_old_reads_are_forgotten():
    latencies = Latencies(50)
    for _ in range(256):
        latencies.note(1, 9.0)
    for _ in range(256):
        latencies.note(1, 1.0)
    assert latencies.threshold(1) == 1.0
