"""Runs our deduplication and datatrove's over the same documents, and prints ratio and recall. See README.md."""

import argparse
import glob
import gzip
import json
import math
import os
import pathlib
import resource
import shutil
import subprocess
import tempfile
import time

import documents

HERE = pathlib.Path(__file__).parent
BANDS, ROWS, THRESHOLD = 14, 8, 0.75


def run(command, folder):
    done = subprocess.run([str(word) for word in command], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{command} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Timed:
    """A command that was run: its output, the time that passed, and the processor time that it took.

    Processes that it leaves to a server of its own, as the peer does, are not in the processor time.
    """

    def __init__(self, command, folder):
        started, cpu = time.perf_counter(), cpu_seconds()
        self.output = run(command, folder)
        self.wall, self.cpu = time.perf_counter() - started, cpu_seconds() - cpu

    def __str__(self):
        return f"{self.wall:.1f} s ({self.cpu:.1f} s of processor time)"


class Lab:
    """A lab of ours in a folder."""

    def __init__(self, nexa, folder):
        self.nexa, self.folder = nexa, folder
        run([nexa, "init", folder, "--project", "bench"], folder)

    def ingest(self, paths):
        listed = ", ".join(str(path) for path in paths)
        return Timed([self.nexa, "data", "ingest", "--output", "documents", f"paths=[{listed}]"], self.folder)

    def dedup(self, name, *settings):
        command = [self.nexa, "data", "dedup", "--from", "documents", "--output", name, "--json", *settings]
        timed = Timed(command, self.folder)
        return timed, json.loads(timed.output)["summary"]

    def clusters(self, name):
        command = [self.nexa, "data", "show", name, "--file", "clusters.parquet", "-n", "10000000", "--json"]
        found = {}
        for row in json.loads(run(command, self.folder)):
            found.setdefault(row["cluster"], []).append(row["id"])
        return found


def probability(similarity):
    return 1 - (1 - similarity**ROWS) ** BANDS


def speed(arguments, folder):
    threads = len(os.sched_getaffinity(0))
    all_documents = list(documents.corpus(arguments.documents, arguments.seed))
    lab = Lab(arguments.nexa, folder / "lab")
    rates = []
    for count in sorted({arguments.peer_documents or arguments.documents, arguments.documents}):
        source = folder / f"jsonl-{count}"
        source.mkdir()
        share = -(-count // threads)
        for part in range(threads):
            part_of = all_documents[:count][part * share : (part + 1) * share]
            documents.write(source / f"part-{part:02}.jsonl", part_of)
        size = sum(path.stat().st_size for path in source.iterdir())
        ingest = lab.ingest(sorted(source.iterdir()))
        ours, summary = lab.dedup(f"unique{count}")
        print(f"{count:,} documents, {size / 1e6:.0f} MB, {threads} threads or workers")
        print(f"ours: {ours}, and {ingest} for ingest before it; removed {summary['removed']:,}", flush=True)
        rates.append((count, ours, ours.wall + ingest.wall))

    peer_count, ours, with_ingest = rates[0]
    peer = [arguments.venv / "bin/python", HERE / "peer.py", folder / f"jsonl-{peer_count}", folder / "peer", threads]
    stages = json.loads(run(peer, folder).splitlines()[-1])
    removed = 0
    for path in glob.glob(str(folder / "peer/removed/*.gz")):
        with gzip.open(path) as lines:
            removed += sum(1 for _ in lines)
    told = ", ".join(f"{name} {seconds:.1f}" for name, seconds in stages.items())
    # What starting Python takes is not held against the peer.
    wall = sum(stages.values())
    print(f"datatrove, {peer_count:,} documents: {wall:.1f} s ({told}); removed {removed:,}")
    print(f"ratio: {wall / ours.wall:.1f}x, with ingest {wall / with_ingest:.1f}x (goal 10x)")
    for count, ours, _ in rates[1:]:
        print(f"documents a second: ours {count / ours.wall:,.0f} of {count:,}, datatrove {peer_count / wall:,.0f}", flush=True)


def recall(arguments, folder):
    all_documents = list(documents.pairs(arguments.pairs, arguments.seed + 1))
    truth = documents.similarities(all_documents, 0.05)
    documents.write(folder / "pairs.jsonl", all_documents)
    lab = Lab(arguments.nexa, folder / "pairs")
    lab.ingest([folder / "pairs.jsonl"])

    def found(name, *settings):
        lab.dedup(name, *settings)
        clusters = lab.clusters(name).values()
        return {tuple(sorted(ids)) for ids in clusters if len(ids) == 2}, sum(len(ids) > 2 for ids in clusters)

    near, larger = found("bands", "min_similarity=0.000001")
    assert larger == 0, "the pairs are isolated"
    print("\n| similarity | pairs | found | curve | within 3 sigma |\n|---|---|---|---|---|")
    is_within = True
    for low in [0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]:
        high = {0.4: 0.5, 0.5: 0.6}.get(low, low + 0.05) if low < 0.95 else 1.01
        pairs = [pair for pair, similarity in truth.items() if low <= similarity < high]
        if not pairs:
            continue
        expected = [probability(truth[pair]) for pair in pairs]
        hits = sum(pair in near for pair in pairs)
        sigma = math.sqrt(sum(p * (1 - p) for p in expected))
        within = abs(hits - sum(expected)) <= 3 * sigma + 1
        is_within &= within
        mean = sum(expected) / len(pairs)
        print(f"| {low:.2f} to {min(high, 1):.2f} | {len(pairs)} | {hits / len(pairs):.3f} | {mean:.3f} | {within} |")
    verified, _ = found("verified", f"min_similarity={THRESHOLD}")
    should = {pair for pair in near if truth[pair] >= THRESHOLD}
    print(f"recall within the curve: {is_within}")
    print(f"verified at {THRESHOLD}: {len(verified)} pairs, exactly those of the candidates: {verified == should}")
    return is_within and verified == should


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nexa", default=str(HERE.parents[1] / "target/release/nexa"))
    default = os.environ.get("NEXA_BENCH_VENV", str(pathlib.Path.home() / ".cache/nexa/bench-dedup-venv"))
    parser.add_argument("--venv", type=pathlib.Path, default=default)
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--peer-documents", type=int, help="run the peer, and ours once more, over so many only")
    parser.add_argument("--pairs", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--skip-speed", action="store_true")
    arguments = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="nexa-bench-dedup-"))
    for name in ["lab", "pairs"]:
        (folder / name).mkdir()
    try:
        if not arguments.skip_speed:
            speed(arguments, folder)
        if not recall(arguments, folder):
            raise SystemExit(1)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
