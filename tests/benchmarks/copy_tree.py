"""``s3dlio cp -r`` of many small files against ``aws s3 cp --recursive``: wall and processor time, up and down.

    python -m tests.benchmarks.copy_tree [--files 5000] [--rounds 3] [--aws PATH] [--aws-concurrency N]
                                         [--server radosgw|moto]

With S3DLIO_TEST_S3_ENDPOINT and its two keys set, the server is that one. ``aws`` is found on PATH or named (``pip
install awscli`` into an environment of its own); it runs with its defaults (10 requests at a time) unless told not to.
Each step is a process of its own, in turns, into a fresh prefix or directory; both read what their own upload has made.
Times are those of the whole process, start of the interpreter included; what arrives is compared byte by byte, outside
of the time. The table is Markdown; ratios above 1 mean that s3dlio needs less.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tests.servers.external import ExternalServer
from tests.servers.moto import MotoServer
from tests.servers.radosgw import RadosGateway

if TYPE_CHECKING:
    from tests.servers.server import Server

_DIRECTORY_FILES = 100
_MIN_BYTES, _MAX_BYTES = 1 << 10, 8 << 10


class _Cost(NamedTuple):
    wall_s: float
    cpu_s: float


def _make_tree(folder: Path, files: int) -> int:
    random = np.random.default_rng(1)
    total = 0
    for number in range(files):
        path = folder / f"{number // _DIRECTORY_FILES:04d}" / f"{number:06d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = random.bytes(int(random.integers(_MIN_BYTES, _MAX_BYTES + 1)))
        path.write_bytes(data)
        total += len(data)
    return total


def _run(words: list[str], environment: dict[str, str]) -> _Cost:
    """The cost of a process and its children."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            sys.exit(f"{' '.join(words)}: exit code {process.returncode}\n{said.read()[-4000:].decode()}")
    return _Cost(wall_s, usage.ru_utime + usage.ru_stime)


def _check(expected: Path, found: Path) -> None:
    names = sorted(str(path.relative_to(expected)) for path in expected.rglob("*") if path.is_file())
    there = sorted(str(path.relative_to(found)) for path in found.rglob("*") if path.is_file())
    if names != there:
        sys.exit(f"{found}: {len(there)} files, expected the {len(names)} of {expected}")
    _, different, unread = filecmp.cmpfiles(expected, found, names, shallow=False)
    if different or unread:
        sys.exit(f"{found}: {len(different) + len(unread)} files differ, such as {(different + unread)[0]}")


def _aws_environment(folder: Path, concurrency: int | None) -> dict[str, str]:
    """A configuration of its own, so that the developer's plays no part."""
    configuration = folder / "aws-config"
    text = "[default]\ns3 =\n    addressing_style = path\n"
    if concurrency is not None:
        text += f"    max_concurrent_requests = {concurrency}\n"
    configuration.write_text(text)
    return {"AWS_CONFIG_FILE": str(configuration), "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_PAGER": ""}


def _measure(arguments: argparse.Namespace, server: Server, folder: Path) -> dict[tuple[str, str], list[_Cost]]:
    tree = folder / "tree"
    total = _make_tree(tree, arguments.files)
    print(f"{arguments.files} files, {total / 1e6:.1f} MB, {server.endpoint_url}", file=sys.stderr)
    environment = {**os.environ, **server.environment, "AWS_EC2_METADATA_DISABLED": "true"}
    aws_environment = environment | _aws_environment(folder, arguments.aws_concurrency)
    bucket = server.new_container()
    ours = [sys.executable, "-c", "from s3dlio.cli import main; main()", "cp", "-r"]
    aws = [arguments.aws, "s3", "cp", "--recursive", "--only-show-errors", "--endpoint-url", server.endpoint_url]
    costs: dict[tuple[str, str], list[_Cost]] = {}
    for number in range(arguments.rounds):
        for tool, words, settings in (("s3dlio", ours, environment), ("aws", aws, aws_environment)):
            uri = f"s3://{bucket}/{tool}-{number}/"
            up = _run([*words, f"{tree}/", uri], settings)
            back = folder / "back"
            down = _run([*words, uri, f"{back}/"], settings)
            _check(tree, back)
            shutil.rmtree(back)
            costs.setdefault((tool, "up"), []).append(up)
            costs.setdefault((tool, "down"), []).append(down)
            print(f"{tool} {number}: up {up.wall_s:.2f} s, down {down.wall_s:.2f} s", file=sys.stderr)
    return costs


def _report(costs: dict[tuple[str, str], list[_Cost]], files: int) -> None:
    print("| | s3dlio s | aws s | wall ratio | s3dlio CPU s | aws CPU s | CPU ratio | s3dlio files/s |")
    print("|---|---|---|---|---|---|---|---|")
    for way in ("up", "down"):
        ours, theirs = costs["s3dlio", way], costs["aws", way]
        wall, aws_wall = (statistics.median(cost.wall_s for cost in each) for each in (ours, theirs))
        cpu, aws_cpu = (statistics.median(cost.cpu_s for cost in each) for each in (ours, theirs))
        print(
            f"| {way} | {wall:.2f} | {aws_wall:.2f} | {aws_wall / wall:.1f} | {cpu:.2f} | {aws_cpu:.2f} "
            f"| {aws_cpu / cpu:.1f} | {files / wall:,.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--aws", default=shutil.which("aws"))
    parser.add_argument("--aws-concurrency", type=int)
    parser.add_argument("--server", choices=("radosgw", "moto"), default="radosgw")
    arguments = parser.parse_args()
    if arguments.aws is None:
        parser.error("no aws on PATH, expected --aws PATH. Install it: pip install awscli")
    external = ExternalServer.from_environment(os.environ)
    own = RadosGateway if arguments.server == "radosgw" else MotoServer
    with external or own() as server, tempfile.TemporaryDirectory() as folder:
        _report(_measure(arguments, server, Path(folder)), arguments.files)


if __name__ == "__main__":
    main()
