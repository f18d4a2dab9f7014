"""``get``, ``cat``, ``put``."""

import subprocess

import numpy as np
import pytest


def test_get_to_standard_output_and_to_a_file(output, root, tmp_path):
    assert output("get", root / "a.bin") == b"abc"
    assert output("get", root / "a.bin", tmp_path / "copy") == b""
    assert (tmp_path / "copy").read_bytes() == b"abc"
    (tmp_path / "into").mkdir()
    assert output("get", root / "a.bin", tmp_path / "into") == b""
    assert (tmp_path / "into" / "a.bin").read_bytes() == b"abc"


@pytest.mark.parametrize("target", ["new", "."])
def test_get_is_for_one_object(refused, root, tmp_path, target):
    (tmp_path / "t").mkdir()
    (tmp_path / "t/x").write_bytes(b"x")
    said = refused(2, "get", tmp_path / "t", tmp_path / target)
    assert (
        said == f"s3dlio: get file://{tmp_path}/t: got a directory, expected one object. For directories use cp -r.\n"
    )
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "x").exists()


def test_get_takes_no_pattern(output, refused, tmp_path):
    for name in ("a[1]", "a1"):
        (tmp_path / name).write_text(name)
    assert output("get", tmp_path / "a[1]", tmp_path / "copy") == b""
    assert (tmp_path / "copy").read_text() == "a[1]"
    assert refused(1, "get", tmp_path / "a*", tmp_path / "new") == refused(1, "get", tmp_path / "a*")
    assert not (tmp_path / "new").exists()


def test_get_into_no_directory_is_one_line(refused, root):
    said = refused(1, "get", root / "a.bin", "/no/dir/x")
    assert said.startswith("s3dlio: ")
    assert "/no/dir/x" in said
    assert said.count("\n") == 1


def test_cat(output, root):
    data = np.random.default_rng(0).bytes((17 << 20) + 3)
    (root / "big").write_bytes(data)
    assert output("cat", root / "a.bin", root / "b.txt", root / "big", root / "a.bin") == b"abc" + data + b"abc"
    assert output("cat", root / "big", "--offset", "1MiB", "--length", "16MiB") == data[1 << 20 : 17 << 20]
    assert output("cat", root / "big", "--offset", "17MiB") == data[17 << 20 :]
    assert output("cat", root / "a.bin", "--offset", "1", "--length", "1") == b"b"
    assert output("cat", root / "a.bin", "--offset", "5") == b""
    assert output("cat", root / "a.bin", "--length", "0") == b""


@pytest.mark.parametrize("size", [0, 5, (8 << 20) + 3])
@pytest.mark.parametrize("options", [[], ["--create"]])
def test_put(output, root, tmp_path, size, options):
    data = np.random.default_rng(0).bytes(size)
    source = tmp_path / "source"
    source.write_bytes(data)
    assert output("put", source, root / "new", *options) == b""
    assert (root / "new").read_bytes() == data
    assert output("put", source, f"{root}/below/", *options) == b""
    assert (root / "below" / "source").read_bytes() == data


def test_put_overwrites_but_create_does_not(output, refused, root, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"new")
    said = refused(1, "put", "--create", source, root / "a.bin")
    assert said.startswith("s3dlio: ")
    assert (root / "a.bin").read_bytes() == b"abc"
    output("put", source, root / "a.bin")
    assert (root / "a.bin").read_bytes() == b"new"


@pytest.mark.parametrize("size", [0, 3, (16 << 20) + 1])
def test_put_of_standard_input(command, root, size):
    data = np.random.default_rng(0).bytes(size)
    done = subprocess.run(
        [*command, "put", "-", root / "new"], input=data, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (root / "new").read_bytes() == data


def test_a_file_whose_name_is_a_pattern(output, root, tmp_path):
    (root / "*").write_bytes(b"star")
    output("put", root / "*", tmp_path / "one")
    assert (tmp_path / "one").read_bytes() == b"star"


def test_put_to_moto_in_parts(output, refused, moto_environment, tmp_path):
    data = np.random.default_rng(0).bytes((17 << 20) + 1)
    source = tmp_path / "source"
    source.write_bytes(data)
    uri = f"s3://{moto_environment.container}/cli/put"
    output("put", source, uri)
    assert output("get", uri) == data
    output("get", uri, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    assert "exists" in refused(1, "put", "--create", source, uri)


@pytest.mark.parametrize("columns", [40, 80])
def test_the_bar_on_a_terminal(on_terminal, root, tmp_path, columns):
    (root / "big").write_bytes(bytes(32 << 20))
    code, shown = on_terminal("get", root / "big", tmp_path / "copy", columns=columns)
    assert code == 0
    assert "100%" in shown
    assert "…" not in shown
    assert "33.6 MB of 33.6 MB" in shown
