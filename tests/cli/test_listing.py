"""``ls``, ``stat``, ``buckets``, ``mkdir``."""

import json
import re

import pytest

from s3dlio.storage import open_store


@pytest.fixture
def tree(tmp_path):
    for name, size in {"a": 1, "d/b": 20, "d/e/c": 3_000, "d.x": 0}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    return tmp_path


def test_ls_in_a_pipe_is_a_line_an_object(output, root):
    lines = [f"3\tfile://{root}/a.bin", f"0\tfile://{root}/b.txt"]
    assert output("ls", root).decode().splitlines() == lines
    assert output("ls", root, "--pattern", r"\.txt$").decode().splitlines() == lines[1:]
    assert output("ls", root / "a.bin").decode().splitlines() == lines[:1]
    assert output("ls", root / "a.bin", "--pattern", "txt") == b""


def test_directories_as_one_line(output, tree):
    lines = output("ls", "-d", tree).decode().splitlines()
    assert lines == [f"1\tfile://{tree}/a", f"0\tfile://{tree}/d.x", f"3020\tfile://{tree}/d/"]
    assert output("ls", "--no-recursive", f"{tree}/d/").decode().splitlines() == [
        f"20\tfile://{tree}/d/b",
        f"3000\tfile://{tree}/d/e/",
    ]
    assert len(output("ls", "-r", tree).splitlines()) == 4


def test_human_sizes_and_long_lines(output, tree):
    assert f"3.0 kB\tfile://{tree}/d/e/c" in output("ls", "-H", tree).decode().splitlines()
    size, time, etag, uri = output("ls", "-l", f"{tree}/d/e").decode().rstrip("\n").split("\t")
    assert (size, uri) == ("3000", f"file://{tree}/d/e/c")
    assert time.startswith("20")
    assert etag


def test_ls_on_a_terminal_is_a_table(on_terminal, root):
    code, shown = on_terminal("ls", root)
    assert code == 0
    assert shown.splitlines() == ["size  uri", f" 3 B  file://{root}/a.bin", f" 0 B  file://{root}/b.txt",
                                  "2 objects, 3 B"]  # fmt: skip


def test_a_terminal_is_told_nothing_by_a_key(on_terminal, tmp_path):
    (tmp_path / "a\x1b[2Jü b").write_bytes(b"abc")
    code, shown = on_terminal("ls", tmp_path)
    assert code == 0
    assert f"file://{tmp_path}/a\\x1b[2Jü b" in shown


@pytest.mark.parametrize("columns", [40, 80])
def test_ls_on_a_narrow_terminal_shows_names(on_terminal, root, columns):
    code, shown = on_terminal("ls", "-l", root, columns=columns)
    assert code == 0
    head, first, *_ = shown.splitlines()
    assert head.split() == ["size", "modified", "etag", "uri"]
    assert re.fullmatch(rf" 3 B  \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d  \S+ +file://{re.escape(str(root))}/a\.bin", first)


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("options", [[], ["-d"], ["--json"]])
def test_a_path_that_leads_nowhere_is_an_error(refused, output, root, slash, options):
    said = refused(1, "ls", f"{root}/nothing{slash}", *options)
    assert "no such file or directory" in said
    assert said.count("\n") == 1
    (root / "nothing").mkdir()
    assert output("ls", f"{root}/nothing{slash}", *options) == b""


def test_a_prefix_that_leads_nowhere_is_empty(output, moto_environment):
    assert output("ls", f"s3://{moto_environment.container}/no/such/prefix") == b""


def test_ls_json(output, root, tree):
    entries = [json.loads(line) for line in output("ls", root, "--json").splitlines()]
    assert [(entry["uri"], entry["size"]) for entry in entries] == [
        (f"file://{root}/a.bin", 3),
        (f"file://{root}/b.txt", 0),
    ]
    assert set(entries[0]) == {"uri", "size", "etag", "last_modified"}
    (directory,) = [json.loads(line) for line in output("ls", "-d", "--json", f"{tree}/d", "--pattern", "e/")
                    .splitlines()]  # fmt: skip
    assert directory == {"uri": f"file://{tree}/d/e/", "size": 3000, "objects": 1}


def test_stat(output, root):
    shown = json.loads(output("stat", root / "a.bin"))
    assert shown["size"] == 3
    assert set(shown) == {"key", "size", "etag", "last_modified"}
    lines = output("stat", "--json", root / "a.bin", root / "b.txt").splitlines()
    assert [json.loads(line)["size"] for line in lines] == [3, 0]


@pytest.mark.parametrize(("command", "verb"), [("stat", "stat"), ("cat", "get"), ("get", "get")])
def test_what_is_not_there_is_named_by_what_was_called(refused, root, command, verb):
    assert refused(1, command, root / "none").startswith(f"s3dlio: {verb} file://{root}/none: ")


def test_buckets(call, output, refused, moto_environment):
    assert "s3://bucket" in output("buckets").decode().splitlines()
    assert {"uri": "s3://bucket"} in [json.loads(line) for line in output("ls", "s3://", "--json").splitlines()]
    assert output("mkdir", "s3://made-by-mkdir") == b""
    assert output("mkdir", "s3://made-by-mkdir") == b"", "one that exists is no error"
    assert output("buckets", "s3://made-by-create", "--create") == b""
    assert "exists" in refused(1, "buckets", "s3://made-by-create", "--create")
    with open_store("s3://made-by-create") as store:
        store.put("x", b"x")
        assert "objects in it" in refused(1, "buckets", "s3://made-by-create", "--delete")
        store.delete("x")
    for name in ("made-by-mkdir", "made-by-create"):
        assert output("buckets", f"s3://{name}", "--delete") == b""
    assert not [line for line in output("buckets").splitlines() if b"made-by" in line]


@pytest.mark.parametrize("uri", ["s3://name", "s3://name/key", "az://name"])
def test_buckets_of_a_bucket_names_the_command(refused, uri):
    said = refused(2, "buckets", uri)
    assert said.startswith(f"s3dlio: list buckets {uri}: ")
    assert said.endswith("For what is in it: s3dlio ls.\n")


def test_mkdir_of_a_web_server(refused):
    said = refused(2, "mkdir", "http://user:secret@host/x")
    assert "web servers are only read" in said
    assert "secret" not in said


def test_mkdir_of_a_directory(output, tmp_path):
    output("mkdir", tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_ls_of_a_server(output, moto_environment):
    bucket = moto_environment.new_container()
    with open_store(f"s3://{bucket}") as store:
        for key in ("x/a", "x/b/c", "y"):
            store.put(key, b"12345")
    assert output("ls", "-d", f"s3://{bucket}").decode().splitlines() == [
        f"10\ts3://{bucket}/x/",
        f"5\ts3://{bucket}/y",
    ]
    assert output("ls", f"s3://{bucket}/x/b/c").decode().splitlines() == [f"5\ts3://{bucket}/x/b/c"]
