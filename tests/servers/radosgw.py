"""A RADOS Gateway over a Ceph cluster of one node: a real S3 server, with its objects in memory.

Owns: three daemons (monitor, object store, gateway), all in the foreground, so that their process ids
are known, and one temporary directory with everything that they write. Works as root and as any other user.

Source: Ceph documentation, "Manual deployment" and "Developer guide (quick)"; vstart.sh for what one node needs.
"""

from __future__ import annotations

import os
import subprocess
import uuid

from .process import Processes
from .server import S3Server, find_programs, free_port

INSTALL = "apt-get install --no-install-recommends ceph-mon ceph-osd radosgw ceph-common"
_PROGRAMS = ("monmaptool", "ceph-mon", "ceph-osd", "radosgw", "ceph", "radosgw-admin")
_START_LIMIT_S = 90.0  # 6 s on an idle machine
_COMMAND_LIMIT_S = 60.0

_CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{mon_port}
mon initial members = a
ms bind msgr2 = false
public addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon warn on pool no redundancy = false
paxos propose interval = 0.05
paxos min wait = 0.01
osd crush chooseleaf type = 0
osd crush update on start = false
osd class update on start = false
osd objectstore = memstore
memstore device bytes = 8589934592
osd max object size = 512M
run dir = {folder}
log file = {folder}/log/$name.log
admin socket = {folder}/$name.asok
pid file = {folder}/$name.pid
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
keyring = {folder}/keyring
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw dns name = localhost
debug rgw = 0
debug ms = 0
debug osd = 0
"""


class RadosGateway(S3Server):
    """Access key ``testkey``, secret ``testsecret``, path-style addressing."""

    name = "radosgw"
    access_key = "testkey"
    secret_key = "testsecret"

    def __init__(self) -> None:
        self._processes = Processes(self.name)

    @property
    def environment(self) -> dict[str, str]:
        # Older gateways answer 411 to the trailing checksums that Amazon's SDKs have sent since 2025.
        return {**super().environment, "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"}

    def start(self) -> None:
        tools = dict(zip(_PROGRAMS, find_programs(*_PROGRAMS, install=INSTALL), strict=True))
        port, mon_port = free_port(), free_port()
        fsid, osd_uuid = str(uuid.uuid4()), str(uuid.uuid4())
        folder = self._processes.folder
        for name in ("mon", "osd", "rgw"):
            (folder / name).mkdir()
        (folder / "keyring").touch()
        configuration = folder / "ceph.conf"
        configuration.write_text(
            _CONFIGURATION.format(fsid=fsid, folder=folder, port=port, mon_port=mon_port), encoding="utf-8"
        )
        user = ["--setuser", "root", "--setgroup", "root"] if os.geteuid() == 0 else []

        def run(name: str, *arguments: str) -> None:
            command = [tools[name], "--conf", str(configuration), *arguments]
            # Says a monitor that leads since a moment ago, and cannot answer yet.
            not_yet = "problem getting command descriptions from mon"
            self._processes.run(command, limit_s=_COMMAND_LIMIT_S, not_yet=not_yet)

        def daemon(name: str, *arguments: str) -> None:
            self._processes.spawn([tools[name], "--conf", str(configuration), "-f", *arguments, *user])

        monmap = str(folder / "monmap")
        subprocess.run(
            [tools["monmaptool"], "--create", "--addv", "a", f"v1:127.0.0.1:{mon_port}", "--fsid", fsid, monmap],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=_COMMAND_LIMIT_S,
        )
        run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, *user)
        daemon("ceph-mon", "-i", "a")
        run("ceph", "osd", "new", osd_uuid)
        run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_uuid, *user)
        # Not left to the OSD: it may ask before it knows the cluster's fsid, and end with "wrong fsid".
        run("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=h")
        daemon("ceph-osd", "-i", "0")
        daemon("radosgw", "-n", "client.rgw")
        keys = ["--access-key", self.access_key, "--secret-key", self.secret_key]
        run("radosgw-admin", "user", "create", "--uid", "test", "--display-name", "test", *keys)
        self.endpoint_url = f"http://127.0.0.1:{port}"
        self._processes.wait(self.endpoint_url, limit_s=_START_LIMIT_S)
        self.make_container(self.container)

    def stop(self) -> None:
        self._processes.stop()
