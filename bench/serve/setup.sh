#!/usr/bin/env bash
# Installs llama.cpp's Python package, the peer of bench/serve, and prints the Python that has it. It compiles for ten minutes where no built package is found.
set -euo pipefail
venv="${XDG_CACHE_HOME:-$HOME/.cache}/nexa/bench-serve-venv"
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet "llama-cpp-python[server]==0.3.*" >&2
echo "$venv/bin/python"
