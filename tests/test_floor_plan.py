"""The floors of the design, enforced: who may import whom, how large a file may be, what an import may do."""

import ast
import importlib
import json
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import s3dlio

ROOT = Path(__file__).parents[1]
FLOORS = [
    "errors",
    "uri",
    "arrays",
    "generate",
    "concurrency",
    "storage",
    "reading",
    "transfer",
    "formats",
    "datasets",
    "loader",
    "checkpoint",
    "compat",
    "cli",
    "testing",
]
BESIDE = {"formats": {"storage", "reading"}, "checkpoint": {"loader", "datasets"}}
ADAPTERS = {"s3dlio_torch": "torch", "s3dlio_tf": "tensorflow", "s3dlio_jax": "jax"}
FRAMEWORKS = {"torch", "tensorflow", "keras", "jax", "jaxlib", "flax", "lightning", "transformers"}
THREADS = {"threading", "queue", "multiprocessing", "concurrent", "_thread"}
MAX_LINES = 400
MAX_ADAPTER_LINES = 150

CORE_FILES = sorted((ROOT / "s3dlio").rglob("*.py"))
ADAPTER_FILES = sorted(path for name in ADAPTERS for path in (ROOT / name).rglob("*.py"))


def relative(path):
    return str(path.relative_to(ROOT))


def imports(path):
    """Every module that the file imports, as (dotted name, line)."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}:{node.lineno}: relative import"
            found += [(f"{node.module}.{alias.name}" if node.module == "s3dlio" else node.module, node.lineno)
                      for alias in node.names]  # fmt: skip
    return found


def floor_of(path):
    part = path.relative_to(ROOT / "s3dlio").parts[0]
    return part.removesuffix(".py")


def test_the_plan_names_every_floor():
    there = {floor_of(path) for path in CORE_FILES} - {"__init__"}
    assert there == set(FLOORS)


@pytest.mark.parametrize("path", CORE_FILES, ids=relative)
def test_imports_go_downward(path):
    floor = floor_of(path)
    for name, line in imports(path):
        where = f"{relative(path)}:{line} imports {name}"
        top, _, rest = name.partition(".")
        assert top not in ADAPTERS, f"{where}: the core knows no adapter"
        assert top not in FRAMEWORKS, f"{where}: the core knows no framework"
        if floor not in {"concurrency", "testing"}:
            assert top not in THREADS, f"{where}: only concurrency may"
        if top != "s3dlio" or floor == "__init__":
            continue
        other = rest.partition(".")[0]
        assert other, f"{where}: import from a floor, not from the face"
        assert FLOORS.index(other) <= FLOORS.index(floor), f"{where}: upward"
        assert other not in BESIDE.get(floor, set()), f"{where}: {floor} must not know {other}"


@pytest.mark.parametrize("path", ADAPTER_FILES, ids=relative)
def test_adapters_know_one_framework_and_no_other_adapter(path):
    package = path.relative_to(ROOT).parts[0]
    allowed = {"s3dlio_tf": {"tensorflow", "keras"}}.get(package, {ADAPTERS[package]})
    for name, line in imports(path):
        top = name.partition(".")[0]
        where = f"{relative(path)}:{line} imports {name}"
        assert top in allowed or top not in FRAMEWORKS, where
        assert top == package or top not in ADAPTERS, where


@pytest.mark.parametrize("path", CORE_FILES + ADAPTER_FILES, ids=relative)
def test_sizes(path):
    limit = MAX_ADAPTER_LINES if path in ADAPTER_FILES else MAX_LINES
    lines = len(path.read_text().splitlines())
    assert lines <= limit, f"{relative(path)} has {lines} lines, at most {limit}: split it"


@pytest.mark.parametrize("path", [p for p in CORE_FILES + ADAPTER_FILES if "cli" not in p.parts], ids=relative)
def test_only_the_command_line_prints_or_exits(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"print", "exit", "quit", "sys.exit", "os._exit"}, f"{relative(path)}:{node.lineno}"


def packages():
    inits = [p for p in CORE_FILES + ADAPTER_FILES if p.name == "__init__.py" and p.parent != ROOT / "s3dlio"]
    return [".".join(p.parent.relative_to(ROOT).parts) for p in inits]


@pytest.mark.parametrize("name", packages())
def test_all_is_what_is_importable(name):
    module = importlib.import_module(name)
    source = ast.parse(Path(module.__file__).read_text())
    assert len(set(module.__all__)) == len(module.__all__), "a name twice"
    for node in source.body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        exported = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        imported = isinstance(node, ast.Import | ast.ImportFrom)
        assert docstring or exported or imported, f"{name}:{node.lineno}: a face holds re-exports and nothing else"
    submodules = {p.stem for p in Path(module.__file__).parent.iterdir() if p.suffix == ".py" or p.is_dir()}
    importable = {n for n in vars(module) if not n.startswith("_")} - (submodules - set(module.__all__))
    assert importable - {"annotations"} == set(module.__all__)


def test_the_lazy_face_says_the_same_at_run_time_and_to_type_checkers():
    """Names, homes and `__all__`; and that no package's name hides a public name once it is imported."""
    stub = ast.parse((ROOT / "s3dlio" / "__init__.pyi").read_text())
    typed = {alias.asname: node.module for node in stub.body for alias in node.names}
    assert {name: f"s3dlio.{home}" for name, home in s3dlio._HOME_OF.items()} == typed
    assert sorted(typed) == sorted(s3dlio.__all__)
    assert not set(s3dlio.__all__) & set(FLOORS)
    for name in s3dlio.__all__:
        assert getattr(s3dlio, name) is getattr(importlib.import_module(typed[name]), name)
    assert s3dlio.formats is importlib.import_module("s3dlio.formats")
    with pytest.raises(AttributeError, match="module 's3dlio' has no attribute 'nothing'"):
        s3dlio.nothing  # noqa: B018  # the access is the test


@pytest.mark.parametrize("name", ["s3dlio", *ADAPTERS])
def test_every_public_name_has_a_docstring_and_a_docs_page(name):
    pages = "\n".join(path.read_text() for path in (ROOT / "docs" / "reference").glob("*.md"))
    module = importlib.import_module(name)
    for public in module.__all__:
        value = getattr(module, public)
        alias = typing.get_origin(value) is not None  # its docstring stands below it in the source
        if not alias and (isinstance(value, type) or callable(value)):
            assert (value.__doc__ or "").strip(), f"{name}.{public} has no docstring"
            for method, code in vars(value).items() if isinstance(value, type) else ():
                if not method.startswith("_") and callable(code):
                    assert (code.__doc__ or "").strip(), f"{name}.{public}.{method} has no docstring"
        assert f"`{public}" in pages or f".{public}" in pages, f"{name}.{public} is on no page of docs/reference"


def in_fresh_process(code):
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", code], capture_output=True, text=True, timeout=120, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_importing_every_public_name_has_no_effects():
    seen = in_fresh_process("""
import json, os, sys, threading
import numpy, pyarrow
before = threading.active_count()
opened, started, read = [], [], []
def hook(event, args):
    if event == "open" and not str(args[0]).endswith((".py", ".pyc", ".so", "__pycache__")):
        opened.append(str(args[0]))
    if event in {"_thread.start_new_thread", "socket.connect", "os.fork", "subprocess.Popen"}:
        started.append(event)
sys.addaudithook(hook)
class Recording(type(os.environ)):
    def __getitem__(self, key):
        read.append(key)
        return super().__getitem__(key)
os.environ.__class__ = Recording
import s3dlio
[getattr(s3dlio, name) for name in s3dlio.__all__]
print(json.dumps({
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
    "opened": opened, "started": started, "threads": threading.active_count() - before,
    "read": [key for key in read if key.startswith(("AWS_", "AZURE_", "GOOGLE_", "S3DLIO_"))],
}))
""")
    heavy = FRAMEWORKS | {"typer", "rich", "boto3", "moto", "sklearn", "pandas", "fsspec", "ml_dtypes", "hypothesis"}
    assert not heavy & set(seen["modules"])
    opened = [path for path in seen["opened"] if "/lib/python" not in path and "site-packages" not in path]
    assert opened == []
    assert seen["started"] == []
    assert seen["threads"] == 0
    assert seen["read"] == []


def test_a_bare_import_is_quick():
    """Under 50 ms of processor time (5 ms measured): names load what they need when they are first used.

    The least of five, since load only adds.
    """
    code = """
import json, time
began = time.process_time()
import s3dlio
print(json.dumps(time.process_time() - began))
"""
    assert min(in_fresh_process(code) for _ in range(5)) < 0.050
