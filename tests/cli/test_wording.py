"""The library's words in the command's messages."""

import ast
import re
from pathlib import Path

import pytest

import s3dlio
from s3dlio.cli.wording import SPELLINGS, lines
from s3dlio.errors import StorageError

PACKAGE = Path(s3dlio.__file__).parent
CALLED = [
    path
    for part in ("storage", "transfer", "reading", "uri.py", "checkpoint/discovery.py")
    for path in ([PACKAGE / part] if part.endswith(".py") else sorted((PACKAGE / part).rglob("*.py")))
]
KEYWORD = re.compile(r"\b[a-z_]{3,}=(?:True|False|'\w+'|,)")
NOT_CALLED = {
    ("delete.py", "whole_container=True"): "rm deletes by itself",
    ("files.py", "mode='create'"): "of open()",
    ("store.py", "backend='arrow'"): "after a fork, which no command makes",
}


def messages(path):
    """Texts of the file, pieces of one f-string joined; docstrings and code in backquotes left out."""
    tree = ast.parse(path.read_text())
    left_out = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            left_out.update(map(id, node.values))
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(value.value) if isinstance(value, ast.Constant) else "{}" for value in node.values)


EVERY_MESSAGE = [(path.name, text) for path in CALLED for text in messages(path)]


@pytest.mark.parametrize("sentence", SPELLINGS)
def test_the_library_says_so(sentence):
    assert any(sentence in text for _, text in EVERY_MESSAGE)


def test_no_keyword_argument_is_left():
    left = []
    for name, text in EVERY_MESSAGE:
        (said,) = lines(StorageError(text))
        left += [(name, word) for word in KEYWORD.findall(said) if (name, word) not in NOT_CALLED]
    assert left == []


def test_notes_are_lines():
    error = StorageError("get x: gone.")
    error.add_note("1 of 2 objects were transferred and stay; resume=True goes on from there.")
    assert lines(error) == ["get x: gone.", "1 of 2 objects were transferred and stay; cp --resume goes on from there."]


def test_a_directory_without_r(refused, tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t/x").touch()
    assert refused(2, "cp", tmp_path / "t", tmp_path / "new").endswith("Pass -r for all below.\n")
