#!/usr/bin/env bash
# Makes the virtual environment of the peer, outside of the repository.
set -euo pipefail
venv="${NEXA_BENCH_VENV:-$HOME/.cache/nexa/bench-dedup-venv}"
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --upgrade pip
"$venv/bin/pip" install --quiet 'datatrove[io,processing]' spacy
"$venv/bin/pip" list 2>/dev/null | grep -iE '^(datatrove|numpy|spacy) '
echo "$venv"
