"""The four MinHash stages of datatrove over a folder of JSONL files; prints what each took as JSON."""

import json
import pathlib
import sys
import time

from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter


def main(source, folder, workers):
    folder = pathlib.Path(folder)
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    place = {name: str(folder / name) for name in ["signatures", "buckets", "clusters", "kept", "removed"]}
    files = len(list(pathlib.Path(source).glob("*.jsonl")))
    stages = {
        "signatures": ([JsonlReader(source), MinhashDedupSignature(place["signatures"], config)], files),
        "buckets": ([MinhashDedupBuckets(place["signatures"], place["buckets"], config=config)], config.num_buckets),
        "clusters": ([MinhashDedupCluster(place["buckets"], place["clusters"], config=config)], 1),
        "filter": (
            [
                JsonlReader(source),
                MinhashDedupFilter(place["clusters"], exclusion_writer=JsonlWriter(place["removed"])),
                JsonlWriter(place["kept"]),
            ],
            files,
        ),
    }
    seconds = {}
    for name, (pipeline, tasks) in stages.items():
        started = time.perf_counter()
        LocalPipelineExecutor(
            pipeline=pipeline, tasks=tasks, workers=min(workers, tasks), logging_dir=str(folder / "logs" / name)
        ).run()
        seconds[name] = time.perf_counter() - started
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
