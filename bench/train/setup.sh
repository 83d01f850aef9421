#!/usr/bin/env bash
# Makes the virtual environment of the peers, outside of the repository.
set -euo pipefail
venv="${NEXA_BENCH_VENV:-$HOME/.cache/nexa/bench-venv}"
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --upgrade pip
"$venv/bin/pip" install --quiet torch transformers trl peft datasets accelerate
"$venv/bin/pip" list 2>/dev/null | grep -iE '^(torch|transformers|trl|peft|datasets|accelerate) '
echo "$venv"
