"""Figures against numbers done by hand, and what is drawn of them."""

import numpy as np
import pytest

from s3dlio.cli.measurement import measure, report


def test_figures():
    measurement = measure([0.001 * n for n in range(1, 1001)], size=2_000_000, seconds=4.0)
    assert measurement.json()["bytes_per_s"] == 500_000
    assert measurement.json()["requests_per_s"] == 250
    assert measurement.percentiles_ms == pytest.approx(
        {"p50": 500.5, "p90": 900.1, "p99": 990.01, "p99.9": 999.001, "max": 1000}
    )


def test_bins_hold_every_request_once():
    durations = np.random.default_rng(0).lognormal(-4, 1.5, 5000)
    histogram = measure(durations, size=0, seconds=1).histogram
    assert sum(count for _, _, count in histogram) == 5000
    for low, high, count in histogram:
        assert count == np.count_nonzero((durations * 1000 >= low) & (durations * 1000 < high))
    assert [high for _, high, _ in histogram[:-1]] == [low for low, _, _ in histogram[1:]]
    assert histogram[0][2] > 0
    assert histogram[-1][2] > 0


@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize("width", [20, 80, 200])
def test_lines_fit(width, blocks):
    durations = np.random.default_rng(0).lognormal(-4, 1.5, 5000)
    lines = report(measure(durations, size=10**9, seconds=1.5), width=width, blocks=blocks)
    drawn = lines[lines.index("") + 1 :]
    assert len(drawn) > 5
    if width >= 40:
        assert max(map(len, drawn)) <= width
    assert all(line.isascii() for line in lines) == (not blocks)


def test_rare_is_not_never():
    lines = report(measure([0.001] * 100_000 + [1.0], size=0, seconds=1), width=80)
    assert lines[-1].endswith("▏")
    assert lines[-2].rstrip().endswith("0")


@pytest.mark.parametrize("durations", [[], [0.0], [1e-9]])
def test_few_or_no_requests(durations):
    measurement = measure(durations, size=0, seconds=0.0)
    assert measurement.json()["requests_per_s"] is None
    assert report(measurement, width=80)
