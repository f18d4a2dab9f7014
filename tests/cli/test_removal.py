"""``rm``."""

import shutil

import pytest

import s3dlio


@pytest.fixture
def tree(tmp_path):
    for name in ("t/a.x", "t/d/b.x", "t/d/c", "u"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    return tmp_path


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_objects(output, tree):
    assert output("rm", tree / "u") == b""
    assert output("rm", tree / "u") == b"", "none there is no error, as on S3"
    assert output("rm", tree / "t/a.x", tree / "t/d/c") == b""
    assert files(tree) == ["t/d/b.x"]


def test_a_directory_needs_r(output, tree):
    assert output("rm", tree / "t") == b"", "there is no such object, as on S3"
    assert len(files(tree)) == 4


def test_a_tree_needs_an_answer_or_yes(refused, output, tree):
    said = refused(2, "rm", "-r", tree / "t")
    assert "3 objects, 3 B" in said
    assert "--yes" in said
    assert len(files(tree)) == 4
    assert output("rm", "-r", "--yes", tree / "t") == b""
    assert files(tree) == ["u"]
    assert output("rm", "-r", "--yes", tree / "t") == b""
    assert output("rm", "-r", tree / "none") == b"", "nothing to ask about"


@pytest.mark.parametrize("answer", [b"y\n", b"YES\n"])
def test_asking_on_a_terminal(on_terminal, tree, answer):
    code, shown = on_terminal("rm", "-r", tree / "t", question="[y/N]", answer=answer)
    assert "Delete 3 objects, 3 B" in shown
    assert code == 0
    assert files(tree) == ["u"]


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (b"n\n", 1, "s3dlio: nothing of "),
        (b"\n", 1, "s3dlio: nothing of "),
        (b"yesterday\n", 1, "s3dlio: nothing of "),
        (b"\x04", 1, "s3dlio: nothing of "),
        (b"\x03", 130, "s3dlio: interrupted; nothing of "),
    ],
)
def test_another_answer_deletes_nothing(on_terminal, tree, answer, code, said):
    left, shown = on_terminal("rm", "-r", tree / "t", question="[y/N]", answer=answer, columns=200)
    *_, question, last = shown.splitlines()
    assert left == code
    assert last == f"{said}file://{tree}/t was deleted."
    assert "[y/N]" in question
    assert len(files(tree)) == 4


def test_dry_run(output, tree):
    assert output("rm", "-r", "--dry-run", tree / "t").decode().splitlines() == [
        f"file://{tree}/t/{name}" for name in ("a.x", "d/b.x", "d/c")
    ]
    assert output("rm", "-n", tree / "u").decode().splitlines() == [f"file://{tree}/u"]
    assert len(files(tree)) == 4


def test_a_pattern(output, tree):
    assert output("rm", "-y", f"{tree}/t/**/*.x") == b""
    assert files(tree) == ["t/d/c", "u"]


@pytest.mark.parametrize("what", ["t", "t/", "t/**", "t/*/c", "t/**/c"])
def test_what_links_to_directories_lead_to_stays(output, tree, what):
    elsewhere = tree / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "c").write_bytes(b"1")
    (tree / "t/link").symlink_to(elsewhere, target_is_directory=True)
    assert output("rm", "-r", "-y", f"{tree}/{what}") == b""
    assert (elsewhere / "c").exists()
    assert not (tree / "t/d/c").exists()


@pytest.mark.parametrize("root", ["/", "file:///", "direct:///", "/**", "/**/c"])
def test_the_root_of_this_machine_is_refused(refused, root):
    assert "every file of this machine" in refused(2, "rm", "-r", "--dry-run", root)


def test_a_server(call, output, tree, moto_environment, tmp_path):
    bucket = moto_environment.new_container()
    output("cp", "-r", tree, f"s3://{bucket}/x")
    log = tmp_path / "rm.tsv.zst"
    said = call("--op-log", log, "rm", "-r", "-y", "-v", f"s3://{bucket}/x").err.decode()
    operations = s3dlio.read_op_log(log).select(["op", "n_objects"]).to_pylist()
    assert [each["n_objects"] for each in operations if each["op"] == "DELETE"] == [4], "one request"
    assert f"deleted s3://{bucket}/x/t/d/c" in said
    assert output("ls", f"s3://{bucket}") == b""


@pytest.mark.parametrize("where", ["local", "memory"])
def test_a_directory_whose_name_looks_like_a_pattern(refused, output, tmp_path, where):
    """It is that directory, and not what the pattern would name."""
    root = f"{tmp_path}/x" if where == "local" else "memory://rm-pattern/x"
    for name in ("run[1]/f", "run[1]/d/g", "run1", "run2"):
        s3dlio.put_bytes(f"{root}/{name}", b"1")
    assert "Pass -r" in refused(2, "rm", "--yes", f"{root}/run[1]")
    assert output("rm", "-r", "--yes", f"{root}/run[1]") == b""
    assert sorted(key.rpartition("/")[2] for key in s3dlio.list_keys(root)) == ["run1", "run2"]
    if where == "local":
        shutil.rmtree(tmp_path / "x" / "run[1]")  # directories stay
    assert output("rm", "--yes", f"{root}/run[1]") == b"", "the pattern, now"
    assert [key.rpartition("/")[2] for key in s3dlio.list_keys(root)] == ["run2"]
    s3dlio.delete(root, recursive=True)


def test_a_variable_that_is_not_set(refused, tree, monkeypatch):
    """GNU's rm refuses it too: it is not this directory."""
    monkeypatch.chdir(tree)
    assert "the URI is empty" in refused(2, "rm", "-r", "--yes", "")
    assert len(files(tree)) == 4
