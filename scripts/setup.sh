#!/usr/bin/env bash
# Make .venv and install this package into it, editable, with what a make target needs.
#   scripts/setup.sh demo     to run examples/digits: torch, scikit-learn, the embedded S3 server
#   scripts/setup.sh test     everything that the tests and the linters need
# PYTHON names the interpreter; otherwise the first of python3, python3.13, ... that fits.
# Packages come from where pip is configured to take them (pip config list); uv does the work when it can be had.
set -euo pipefail
cd "$(dirname "$0")/.."

fits() { # 3.11 is what the package needs, 3.13 the last release that all three frameworks have wheels for
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        fits "$PYTHON" && { echo "$PYTHON"; return; }
        echo "set-up: PYTHON=$PYTHON is not Python 3.11, 3.12 or 3.13, or does not start. Name another one." >&2
        return 1
    fi
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11; do
        fits "$candidate" && { echo "$candidate"; return; }
    done
    echo "set-up: no Python 3.11, 3.12 or 3.13 found (python3: $(python3 --version 2>&1 || true))." >&2
    echo "Run: apt-get install python3 python3-venv    or name an interpreter: make PYTHON=/path/to/python3.12" >&2
    return 1
}

make_venv() {
    if fits .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; then return; fi
    local python
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "set-up: $python has no venv module." >&2
        echo "Run: apt-get install $("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" >&2
        return 1
    fi
    "$python" -m venv --clear .venv
}

pip_configuration() { .venv/bin/python -m pip config list; }

# uv reads no pip configuration, so say on its command line what pip is told there. The index strategy is pip's, too.
uv_options() {
    pip_configuration | .venv/bin/python -c '
import ast, sys

flags = {"index-url": "--index-url", "extra-index-url": "--extra-index-url", "find-links": "--find-links"}
found = {}
for line in sys.stdin:
    name, _, value = line.strip().partition("=")
    section, _, key = name.rpartition(".")
    if key in flags and section in ("global", "install", ":env:"):
        found[(key, ("global", "install", ":env:").index(section))] = ast.literal_eval(value).split()
for key, flag in flags.items():
    for value in found[max(k for k in found if k[0] == key)] if any(k[0] == key for k in found) else []:
        print(flag, value, sep="\n")
print("--index-strategy", "unsafe-best-match", sep="\n")
'
}

# A certificate that pip is told to trust (pip config set global.cert FILE), uv finds in its own variable.
trust_certificate() {
    local found
    found=$(pip_configuration | sed -n "s/^[a-z:]*\.cert='\(.*\)'$/\1/p" | tail -n 1)
    [ -z "$found" ] || export SSL_CERT_FILE="${SSL_CERT_FILE:-$found}"
}

# torch's default wheel for Linux brings 3 GB of CUDA libraries, which no test and no example needs. Where pip is told of
# no other source of wheels, uv takes the CPU build; UV_TORCH_BACKEND=auto make ... takes the one for this machine's GPU.
choose_torch() {
    case "$(pip_configuration)" in *find-links=* | *index-url=*) return ;; esac
    export UV_TORCH_BACKEND="${UV_TORCH_BACKEND:-cpu}"
}

case "${1:?demo or test}" in
demo) wanted=(--editable '.[torch]' scikit-learn 'moto[server]') ;;
test) wanted=(--editable '.[torch,tf,jax,dev]') ;;
*) echo "set-up: $1 is unknown, expected demo or test." >&2; exit 2 ;;
esac

make_venv
trust_certificate
choose_torch
if .venv/bin/python -m uv --version >/dev/null 2>&1 || .venv/bin/python -m pip install --quiet uv; then
    mapfile -t options < <(uv_options)
    .venv/bin/python -m uv pip install --python .venv/bin/python --constraint scripts/constraints.txt \
        "${options[@]}" "${wanted[@]}"
else
    echo "set-up: uv cannot be had here; pip takes longer." >&2
    .venv/bin/python -m pip install --constraint scripts/constraints.txt "${wanted[@]}"
fi
