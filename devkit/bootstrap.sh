#!/usr/bin/env bash
# The Python environment, from the lock: the only step before devkit's own Python can run. Repeatable; a few seconds when
# the packages are in uv's cache.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

fits() { # The versions for which every package in the lock has a wheel.
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
    say "error: no Python of 3.11 to 3.13 with its venv module here (python3 is $(python3 --version 2>&1 || true))." >&2
    say "Put one on PATH as python3.11, python3.12 or python3.13, or use Debian 12 or 13, which have one." >&2
    exit 1
fi

started=$SECONDS
# An interrupted run leaves an environment without pip; a machine's upgrade leaves one whose Python is gone.
if ! { fits .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; }; then
    say "Making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
fi
say "Installing the locked Python packages into .venv (a minute the first time)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/uv.txt
.venv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes -r locks/dev.txt
touch .venv/lock-installed
say "Python environment ready after $((SECONDS - started)) s"
