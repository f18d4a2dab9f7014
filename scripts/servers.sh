#!/usr/bin/env bash
# Install the real servers that `make test-servers` starts, as far as they are missing:
# Ceph's RADOS Gateway from Debian or Ubuntu (needs root or sudo), Azurite from npm into .servers/.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin

packages=()
need() { command -v "$1" >/dev/null || packages+=("$2"); } # program, package
need ceph-mon ceph-mon
need ceph-osd ceph-osd
need radosgw radosgw
need radosgw-admin radosgw
need ceph ceph-common
need monmaptool ceph-common
need npm npm
need node nodejs

if [ ${#packages[@]} -gt 0 ]; then
    root=()
    if [ "$(id -u)" != 0 ]; then
        root=(sudo -n)
        if ! sudo -n true 2>/dev/null; then
            echo "servers: ${packages[*]} missing, and neither root nor sudo without a password to install them." >&2
            echo "Run as root: apt-get install --no-install-recommends ${packages[*]}" >&2
            exit 1
        fi
    fi
    "${root[@]}" apt-get update -q
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}"
fi

if [ ! -x .servers/node_modules/.bin/azurite-blob ]; then
    mkdir -p .servers
    npm install --no-save --no-audit --no-fund --loglevel=error --prefix .servers azurite@3.37
fi
