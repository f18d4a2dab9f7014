"""``cp``."""

import json

import pytest

from s3dlio.storage import open_store


@pytest.fixture
def tree(tmp_path):
    for name in ("t/a.x", "t/d/b.x", "t/d/c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes().decode() for path in folder.rglob("*") if path.is_file()}


def test_trees_in_all_directions(output, tree, moto_environment):
    bucket, other = moto_environment.new_container(), moto_environment.new_container()
    whole = {"a.x": "t/a.x", "d/b.x": "t/d/b.x", "d/c": "t/d/c"}
    assert output("cp", "-r", tree / "t", f"s3://{bucket}/up") == b""
    assert output("cp", "-r", f"s3://{bucket}/up", f"s3://{bucket}/server") == b""
    assert output("cp", "-r", f"s3://{bucket}/server", f"s3://{other}") == b""
    assert output("cp", "-r", f"s3://{other}", tree / "down") == b""
    assert output("cp", "-r", tree / "down", tree / "beside") == b""
    assert files(tree / "down") == files(tree / "beside") == whole


def test_several_sources_go_below_the_target(output, tree):
    output("cp", tree / "t/a.x", tree / "t/d/c", tree / "new")
    assert files(tree / "new") == {"a.x": "t/a.x", "c": "t/d/c"}
    output("cp", f"{tree}/t/**/*.x", tree / "found")
    assert files(tree / "found") == {"a.x": "t/a.x", "d/b.x": "t/d/b.x"}


def test_two_sources_of_one_name_do_not_overwrite_each_other(refused, output, tree):
    (tree / "t/d/a.x").write_bytes(b"another")
    said = refused(2, "cp", tree / "t/a.x", tree / "t/d/c", tree / "t/d/a.x", tree / "new")
    assert f"copy {tree}/t/d/a.x: its target {tree}/new/a.x is that of {tree}/t/a.x, too" in said
    assert not (tree / "new").exists()
    output("cp", tree / "t/a.x", tree / "t/a.x", tree / "new")
    assert files(tree / "new") == {"a.x": "t/a.x"}
    output("cp", f"{tree}/t*/a.x", f"{tree}/t/d*/a.x", tree / "apart")
    assert sorted(files(tree / "apart")) == ["d/a.x", "t/a.x"]
    said = refused(2, "cp", "http://me:hunter2@h/1/x?sig=A", "http://me:hunter2@h/2/x?sig=B", tree / "new")
    assert "is that of http://me:***@h/1/x" in said
    assert "hunter2" not in said


def test_json_resume_and_skip(output, tree):
    first = json.loads(output("cp", "-r", "--json", tree / "t", tree / "n"))
    assert {name: first[name] for name in ("objects", "bytes", "skipped")} == {"objects": 3, "bytes": 17, "skipped": 0}
    assert first["seconds"] > 0
    (tree / "n/a.x").write_bytes(b"another size")
    again = json.loads(output("cp", "-r", "--json", "--skip-existing", tree / "t", tree / "n"))
    assert (again["objects"], again["skipped"]) == (0, 3)
    again = json.loads(output("cp", "-r", "--json", "--resume", tree / "t", tree / "n"))
    assert (again["objects"], again["skipped"]) == (1, 2)


def test_verbose_says_each_object(call, tree):
    done = call("cp", "-r", "-v", tree / "t", "memory://verbose-cli/x")
    assert (done.code, done.out) == (0, b"")
    said = done.err.decode()
    for name in ("a.x", "d/b.x", "d/c"):
        assert f"file://{tree}/t/{name}  " in said
    assert "3 objects, 17 B" in said
    with open_store("memory://verbose-cli") as store:
        store.clear()


def test_the_source_on_another_server(output, tree, moto_environment, monkeypatch):
    bucket = moto_environment.new_container()
    output("cp", tree / "t/a.x", f"s3://{bucket}/a")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    url = moto_environment.endpoint_url
    output("cp", f"s3://{bucket}/a", tree / "down", "--source-endpoint-url", url)
    assert (tree / "down").read_bytes() == b"t/a.x"


def test_the_error_says_how_to_go_on(refused, tree, moto_environment):
    (tree / "t" / "bad\nname").touch()
    said = refused(2, "cp", "-r", "--max-in-flight", "1", tree / "t", f"s3://{moto_environment.new_container()}")
    first, second = said.splitlines()
    assert "bad" in first
    assert "of 4 objects were transferred" in second


def test_the_bar_on_a_terminal(on_terminal, tree):
    code, shown = on_terminal("cp", "-r", tree / "t", tree / "n")
    assert code == 0
    assert "3/3" in shown
    assert "3 objects, 17 B" in shown
    code, shown = on_terminal("cp", "-r", "-v", tree / "t", tree / "m")
    assert code == 0
    assert "t/d/c" in shown.replace("\r\n", "")
