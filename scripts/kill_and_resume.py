#!/usr/bin/env python3
"""Kills `nexa demo` with SIGKILL at random moments, lets it finish, and compares with a run that was left alone.

    cargo build --release
    python scripts/kill_and_resume.py target/release/nexa [--kills 10] [--seed 7] [KEY=VALUE …]

Every artifact, the trained weights among them, and the metrics of training must be equal to the last bit.
Overrides of the demo's pipeline make it shorter: stages.student.with.max_steps=200
"""

import argparse
import hashlib
import json
import pathlib
import random
import subprocess
import sys
import tempfile


def contents(lab: pathlib.Path) -> dict[str, str]:
    """The content hash of every artifact, and of the metrics of every training run."""
    found = {}
    for path in lab.glob("data/**/*.manifest.json"):
        manifest = json.loads(path.read_text())
        found[manifest["id"]] = manifest["content_hash"]
    for path in lab.glob("runs/*/metrics.jsonl"):
        record = json.loads((path.parent / "run.json").read_text())
        found[f"metrics of {record['output']}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nexa", type=pathlib.Path)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)

    with tempfile.TemporaryDirectory() as folder:
        straight, killed = pathlib.Path(folder, "straight"), pathlib.Path(folder, "killed")

        def command(lab: pathlib.Path) -> list[str]:
            return [str(arguments.nexa), "demo", str(lab), *arguments.overrides]

        for number in range(arguments.kills):
            # From the first moments, where stages are short, to well inside training.
            seconds = 20 ** moments.uniform(-0.8, 1.1)
            process = subprocess.Popen(command(killed), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(seconds)
                print(f"{number + 1}: ended by itself within {seconds:.2f} s")
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                print(f"{number + 1}: killed after {seconds:.2f} s", flush=True)
        for lab in (killed, straight):
            subprocess.run(command(lab), check=True, stdout=subprocess.DEVNULL)

        expected, found = contents(straight), contents(killed)
        different = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        if different:
            print(f"FAILED: these differ: {', '.join(different)}")
            return 1
        print(f"equal: {', '.join(sorted(expected))}")
        return 0


if __name__ == "__main__":
    sys.exit(main())
