#!/usr/bin/env bash
# Makes the virtual environment of the peer, outside of the repository, and prints the Python that has it. A build of
# PyTorch for the CPU is enough; where pip finds one is pip's own setting.
set -euo pipefail
venv="${NEXA_BENCH_EVAL_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/nexa/bench-eval-venv}"
python3 -m venv "$venv"
"$venv/bin/pip" install --quiet torch transformers >&2
"$venv/bin/pip" install --quiet "lm_eval[hf]==0.4.13" >&2
"$venv/bin/pip" list 2>/dev/null | grep -iE '^(torch|transformers|lm_eval|datasets) ' >&2
echo "$venv/bin/python"
