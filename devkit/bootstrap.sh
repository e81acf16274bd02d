#!/usr/bin/env bash
# Creates the Python environment from the lock, before the devkit itself can run. It can run again at any time, and takes a
# few seconds when uv has cached the packages.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

fits() { # Every package in the lock has a wheel for these versions.
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in python3.11 python3 python3.12 python3.13; do
        if fits "$candidate" && "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
}

packages=()
[ -n "$(find_python)" ] || packages+=(python3 python3-venv)
[ -e /etc/ssl/certs/ca-certificates.crt ] || packages+=(ca-certificates)
command -v make >/dev/null || packages+=(make)
if [ ${#packages[@]} -gt 0 ]; then
    say "Installing ${packages[*]} with apt"
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi
python=$(find_python)
if [ -z "$python" ]; then
    say "error: Python 3.11 to 3.13 with its venv module is missing (python3 is $(python3 --version 2>&1 || true))." >&2
    say "Install it on PATH as python3.11, python3.12 or python3.13, or use Debian 12 or 13, which include it." >&2
    exit 1
fi

started=$SECONDS
# Replace an environment without pip (of an interrupted run) or without Python (after an upgrade of the machine).
if ! { fits .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; }; then
    say "Creating .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi
say "Installing the locked Python packages into .venv (a minute the first time)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/uv.txt
.venv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes -r locks/dev.txt
touch .venv/lock-installed
say "Python environment ready after $((SECONDS - started)) s"
