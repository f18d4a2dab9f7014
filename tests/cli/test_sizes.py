"""Sizes and durations as people write them."""

import pytest
import typer

from s3dlio.cli.sizes import human, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("4096", 4096), ("64k", 64_000), ("64K", 64_000), ("1.5MB", 1_500_000), ("8MiB", 8 << 20),
     ("8mi", 8 << 20), ("2 GB", 2 * 10**9), ("1TiB", 1 << 40), ("12B", 12), (7, 7)],
)  # fmt: skip
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1q", "1 2", "MiB", "1e3"])
def test_no_sizes(text):
    with pytest.raises(typer.BadParameter, match="no size"):
        parse_size(text)


@pytest.mark.parametrize(("text", "seconds"), [("30", 30), ("500ms", 0.5), ("2m", 120), ("1.5s", 1.5), ("1H", 3600)])
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "1d", "-3s"])
def test_no_durations(text):
    with pytest.raises(typer.BadParameter, match="no duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"), (12 * 10**9, "12.0 GB"),
     (5 * 10**15, "5000.0 TB")],
)  # fmt: skip
def test_for_people(size, text):
    assert human(size) == text
