#!/usr/bin/env bash
# The Python environment, from the lock: the only step before devkit's own Python can run. Repeatable; a few seconds when
# the packages are in uv's cache.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

python=""
for candidate in python3.11 python3; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' &&
        "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    say "Installing Python 3.11 with apt"
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends python3 python3-venv ca-certificates >/dev/null
    python=/usr/bin/python3
fi

say "Installing the locked Python packages into .venv (a minute the first time)"
started=$SECONDS
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/uv.txt
.venv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes -r locks/dev.txt
touch .venv/lock-installed
say "Python environment ready after $((SECONDS - started)) s"
