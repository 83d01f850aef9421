"""Seeded rows like those of a lab: prompts, and the answers of several teachers to them."""

import json
import random

import pyarrow
import pyarrow.parquet

TASKS = ["arithmetic", "summary", "translation", "code", "extraction", "dialogue", "reasoning"]
MODELS = ["small-1", "small-2", "large-1", "large-2"]
DOMAINS = [f"domain_{number:02}" for number in range(40)]
ENDINGS = ["stop", "stop", "stop", "stop", "length", "content_filter"]
WORDS = (
    "the answer follows from what was given so we add both sides and divide by four then compare with the table above "
    "since no term is left over every step can be checked a reader who doubts it may take the numbers one by one"
).split()
# What the lab writes: Zstandard, row groups of 128 Ki rows.
PARQUET = {"compression": "zstd", "row_group_size": 128 * 1024}


def sentence(random_, words):
    return " ".join(random_.choices(WORDS, k=words))


def write_prompts(path, count, seed):
    """Writes prompts."""
    random_ = random.Random(seed)
    table = pyarrow.table(
        {
            "prompt_id": [f"p{number:07}" for number in range(count)],
            "domain": [random_.choice(DOMAINS) for _ in range(count)],
            "prompt": [sentence(random_, random_.randint(8, 30)) for _ in range(count)],
        }
    )
    pyarrow.parquet.write_table(table, path, **PARQUET)


def write_answers(path, count, prompts, seed, lines=None, lines_count=0):
    """Writes answers to prompts, and the first of them as lines of JSON as well."""
    random_ = random.Random(seed + 1)
    writer, batch = None, PARQUET["row_group_size"]
    copy = open(lines, "w", encoding="utf-8") if lines else None
    for begin in range(0, count, batch):
        rows = []
        for number in range(begin, min(begin + batch, count)):
            words = min(int(random_.lognormvariate(3.4, 0.6)) + 3, 400)
            answer = sentence(random_, words) + (" therefore it holds" if random_.random() < 0.07 else "")
            rows.append(
                {
                    "id": f"a{number:08}",
                    "prompt_id": f"p{random_.randrange(prompts):07}",
                    "task": random_.choice(TASKS),
                    "model": random_.choice(MODELS),
                    "finish_reason": random_.choice(ENDINGS),
                    "tokens": words + random_.randint(0, 30),
                    "score": round(random_.gauss(3.5, 1.0), 3),
                    "answer": answer,
                }
            )
        for row in rows[: max(0, lines_count - begin)] if copy else []:
            copy.write(json.dumps(row) + "\n")
        table = pyarrow.Table.from_pylist(rows)
        writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema, compression=PARQUET["compression"])
        writer.write_table(table, row_group_size=PARQUET["row_group_size"])
    writer.close()
    if copy:
        copy.close()
