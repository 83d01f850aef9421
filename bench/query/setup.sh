#!/usr/bin/env bash
# Makes the virtual environment of the peers, outside of the repository.
set -euo pipefail
venv="${NEXA_BENCH_VENV:-$HOME/.cache/nexa/bench-query-venv}"
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --upgrade pip
"$venv/bin/pip" install --quiet duckdb pandas pyarrow
"$venv/bin/pip" list 2>/dev/null | grep -iE '^(duckdb|pandas|pyarrow) '
echo "$venv"
