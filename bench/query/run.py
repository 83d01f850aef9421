"""Asks `nexa data query`, DuckDB and pandas the same questions in turn, and prints medians and ratios. See README.md."""

import argparse
import csv
import io
import json
import math
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import queries
import rows

HERE = pathlib.Path(__file__).resolve().parent
ENGINES = ["nexa", "duckdb", "pandas"]


def run(command, folder):
    begun = time.perf_counter()
    done = subprocess.run([str(word) for word in command], cwd=folder, capture_output=True, text=True)
    wall = time.perf_counter() - begun
    if done.returncode != 0:
        raise SystemExit(f"{command} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done, wall


def ask(engine, name, arguments, folder):
    """Asks one question: the rows, the time of the whole process, and that of the query alone."""
    if engine == "nexa":
        done, wall = run([arguments.nexa, "data", "query", queries.SQL[name], "--format", "csv"], folder)
        inside = float(re.search(r" in ([0-9.]+) s", done.stderr).group(1))
        return list(csv.reader(io.StringIO(done.stdout)))[1:], wall, inside
    done, wall = run([sys.executable, HERE / "peer.py", engine, name], folder)
    told = json.loads(done.stdout)
    return told["rows"], wall, told["seconds"]


def same(one, other):
    """Whether two answers are equal, numbers up to the order in which they were added."""
    def cell(value):
        try:
            return float(value)
        except ValueError:
            return value

    def equal(a, b):
        numbers = isinstance(a, float) and isinstance(b, float)
        return math.isclose(a, b, rel_tol=1e-9) if numbers else a == b

    one, other = ([[cell(value) for value in row] for row in answer] for answer in (one, other))
    return len(one) == len(other) and all(
        len(a) == len(b) and all(map(equal, a, b)) for a, b in zip(one, other)
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nexa", default=HERE.parent.parent / "target/release/nexa", type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--prompts", type=int, default=100_000)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=pathlib.Path, help="keeps the rows here, and takes those that are there")
    arguments = parser.parse_args()
    arguments.nexa = arguments.nexa.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or pathlib.Path(temporary)).resolve()
        if not (folder / queries.LINES).exists():
            folder.mkdir(exist_ok=True, parents=True)
            run([arguments.nexa, "init", ".", "--project", "bench"], folder)
            rows.write_prompts(folder / queries.PROMPTS, arguments.prompts, arguments.seed)
            copy = folder / queries.LINES
            rows.write_answers(folder / queries.ANSWERS, arguments.rows, arguments.prompts, arguments.seed, copy, arguments.lines)
        for file in (queries.ANSWERS, queries.PROMPTS, queries.LINES):
            print(f"{file}: {(folder / file).stat().st_size / 1e6:.1f} MB")
        print("| question | " + " | ".join(f"{engine}, query" for engine in ENGINES) + " | ours to DuckDB | ours to pandas | "
              + " | ".join(f"{engine}, process" for engine in ENGINES) + " | ours to DuckDB |")
        print("|---|" + "---|" * 9)
        for name in queries.SQL:
            measure(name, arguments, folder)


def measure(name, arguments, folder):
    walls, insides = ({engine: [] for engine in ENGINES} for _ in range(2))
    # The first round warms the file cache and is held against the others' answers.
    answers = {engine: ask(engine, name, arguments, folder)[0] for engine in ENGINES}
    for peer in ENGINES[1:]:
        if not same(answers["nexa"], answers[peer]):
            raise SystemExit(f"{name}: ours is {answers['nexa'][:3]}, {peer} has {answers[peer][:3]}")
    for round_ in range(arguments.rounds):
        for offset in range(len(ENGINES)):
            engine = ENGINES[(round_ + offset) % len(ENGINES)]
            _, wall, inside = ask(engine, name, arguments, folder)
            walls[engine].append(wall)
            insides[engine].append(inside)
    inside, wall = ({e: statistics.median(times[e]) for e in ENGINES} for times in (insides, walls))
    cells = [f"{inside[e]:.3f} s" for e in ENGINES]
    cells += [f"{inside['nexa'] / inside[peer]:.2f}x" for peer in ENGINES[1:]]
    cells += [f"{wall[e]:.3f} s" for e in ENGINES] + [f"{wall['nexa'] / wall['duckdb']:.2f}x"]
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
