"""Every Python block of the README and of the docs runs, each as a script of its own, against a real S3 API.

A block that cannot run stands under a line ``<!-- not run: <reason> -->``; nothing else is left out. Links
between pages lead somewhere.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import s3dlio

from .servers.moto import MotoServer

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?P<before>[^\n]*)\n+```python\n(?P<code>.*?)```", re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: \S.* -->")


def blocks():
    for page in PAGES:
        name = str(page.relative_to(ROOT))
        for number, match in enumerate(BLOCK.finditer("\n" + page.read_text())):
            if not NOT_RUN.search(match["before"]):
                needs = [m for f, m in (("s3dlio_torch", "torch"), ("s3dlio_tf", "tf"), ("s3dlio_jax", "jax"))
                         if f in match["code"]]  # fmt: skip
                marks = [pytest.mark.framework(*needs)] if needs else []
                yield pytest.param(match["code"], id=f"{name}:{number}", marks=marks)


@pytest.fixture(scope="module")
def loaded():
    """A server of the pages' own, with the digits in it: what is there beside them is what a page has made."""
    with MotoServer() as server:
        assert server.container == "bucket"
        prepare = [sys.executable, str(ROOT / "examples/digits/prepare.py"), "s3://bucket/digits"]
        environment = {**os.environ, **server.environment}
        subprocess.run(prepare, env=environment, check=True, timeout=120, capture_output=True)
        yield server


@pytest.fixture
def digits(loaded, monkeypatch, clean_environment):
    """The environment of the bucket that the pages speak of, with the digits in it and nothing else."""
    for name, value in loaded.environment.items():
        monkeypatch.setenv(name, value)
    keys = s3dlio.list_keys("s3://bucket")
    s3dlio.delete(f"s3://bucket/{key}" for key in keys if not key.startswith("digits/"))
    return {**os.environ}


@pytest.mark.parametrize("code", list(blocks()))
def test_block_runs(code, digits, tmp_path):
    script = tmp_path / "block.py"
    script.write_text(code)
    environment = {**digits, "TF_CPP_MIN_LOG_LEVEL": "2", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [sys.executable, str(script)],
        env=environment,
        cwd=tmp_path,
        timeout=200,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_readme_begins_with_the_two_commands():
    head = (ROOT / "README.md").read_text()[:400]
    assert "make demo" in head
    assert "make test" in head
