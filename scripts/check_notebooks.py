"""Runs every notebook of docs/notebooks from its first cell to its last, in a lab of its own.

    python -m venv venv && venv/bin/pip install nbclient nbformat ipykernel pandas pyarrow
    NEXA=target/release/nexa venv/bin/python scripts/check_notebooks.py
"""

import os
import pathlib
import shutil
import sys

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main() -> int:
    nexa = shutil.which(os.environ.get("NEXA", "nexa"))
    if nexa is None:
        print("NEXA names no program", file=sys.stderr)
        return 2
    os.environ["NEXA"] = str(pathlib.Path(nexa).resolve())
    os.environ.pop("NEXA_LAB", None)
    failed = 0
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        try:
            NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
            print(f"{path.name}: {len(notebook.cells)} cells")
        except CellExecutionError as error:
            failed += 1
            print(f"{path.name}: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
