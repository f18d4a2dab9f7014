"""``bench``."""

import json
import re


def test_write_cleans_up_and_keep_does_not(output, tmp_path):
    shown = json.loads(output("bench", "write", tmp_path, "--objects", "12", "--size", "1k", "--json", "-c", "4"))
    assert (shown["requests"], shown["bytes"]) == (12, 12_000)
    assert list(tmp_path.iterdir()) == []
    text = output("bench", "write", tmp_path / "x", "--objects", "3", "--size", "10", "--keep").decode()
    assert "3 objects of 10 B" in text
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.stat().st_size for path in kept] == [10, 10, 10]
    assert len({path.read_bytes() for path in kept}) == 3, "objects that are alike would flatter a store"


def test_read(output, tmp_path):
    for number in range(5):
        (tmp_path / str(number)).write_bytes(bytes(1000))
    (tmp_path / "big").write_bytes(bytes((8 << 20) + 1))
    shown = json.loads(output("bench", "read", tmp_path, "--json"))
    assert (shown["requests"], shown["bytes"]) == (7, (8 << 20) + 1 + 5000)
    assert list(shown["latency_ms"]) == ["p50", "p90", "p99", "p99.9", "max"]
    assert sum(count for _, _, count in shown["histogram_ms"]) == 7
    shown = json.loads(output("bench", "read", tmp_path, "--objects", "2", "--duration", "200ms", "--json"))
    assert shown["requests"] > 7
    assert 0.2 <= shown["seconds"] < 5


def test_the_bar_of_a_duration_has_no_end(on_terminal, tmp_path):
    (tmp_path / "x").write_bytes(bytes(1000))
    code, shown = on_terminal("bench", "read", tmp_path, "--duration", "1s")
    assert code == 0
    assert re.search(r"\r\d+ ", shown)
    assert "100%" not in shown
    assert "/0" not in shown


def test_duration_ends_a_write(output, tmp_path):
    shown = json.loads(
        output("bench", "write", tmp_path, "--objects", "10000000", "--size", "0", "--duration", "0.1s", "--json")
    )
    assert 0 < shown["requests"] < 10_000_000
    assert list(tmp_path.iterdir()) == []


def test_an_error_cleans_up(refused, tmp_path, monkeypatch):
    from s3dlio.storage.local import LocalStore

    put, calls = LocalStore.put, []

    def failing(store, key, data, **options):
        calls.append(key)
        if len(calls) == 5:
            raise OSError("disk on fire")
        return put(store, key, data, **options)

    monkeypatch.setattr(LocalStore, "put", failing)
    assert "disk on fire" in refused(1, "bench", "write", tmp_path, "--size", "10", "-c", "1")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_first_error_is_the_one_that_is_told(refused, moto_environment):
    assert "put s3://no-such-bucket/x" in refused(1, "bench", "write", "s3://no-such-bucket/x", "--objects", "3")


def test_a_server(output, moto_environment):
    bucket = moto_environment.new_container()
    text = output("bench", "write", f"s3://{bucket}", "--objects", "20", "--size", "64KiB").decode()
    assert "throughput" in text
    assert "p99.9" in text
    assert output("ls", f"s3://{bucket}") == b""
