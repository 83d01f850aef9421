#!/usr/bin/env bash
# Makes the virtual environment of the peer, outside of the repository.
set -euo pipefail
venv="${NEXA_BENCH_CLEAN_VENV:-$HOME/.cache/nexa/bench-clean-venv}"
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --upgrade pip
"$venv/bin/pip" install --quiet "datatrove==0.10.1" spacy nltk regex
"$venv/bin/pip" list 2>/dev/null | grep -iE '^(datatrove|spacy) '
echo "$venv"
