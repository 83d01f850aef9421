#!/usr/bin/env bash
# Makes the virtual environment of the peer, outside of the repository.
set -euo pipefail
venv="${NEXA_COLLECT_VENV:-$HOME/.cache/nexa/collect-venv}"
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --upgrade pip
"$venv/bin/pip" install --quiet bespokelabs-curator
"$venv/bin/pip" list 2>/dev/null | grep -iE '^(bespokelabs-curator|litellm|openai) '
echo "$venv"
