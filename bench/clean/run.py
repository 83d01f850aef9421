"""Runs the same documents through our gates and through datatrove's, each on one core, and compares every verdict.

See README.md beside this file.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import subprocess
import tempfile

from corpus import prose, sentence, vocabulary

HERE = pathlib.Path(__file__).parent
GOAL_MB_PER_SECOND = 20
GOAL_RATIO = 10


def page(random, words, problems):
    """A page of the length that pages of the web have, with what makes pages bad here and there."""
    lines = max(2, int(random.lognormvariate(2.2, 0.9)))
    text = prose(random, words, lines, random.randint(2, 5)).split("\n")
    spoil = random.random()
    if spoil < 0.06:
        text = [f"- {line}" for line in text]
    elif spoil < 0.12:
        text += [random.choice(words).title() for _ in range(random.randint(5, 60))]
    elif spoil < 0.18:
        text += random.choices(text, k=random.randint(1, len(text)))
    elif spoil < 0.24:
        text = [line.rstrip(".") if random.random() < 0.7 else line for line in text]
    elif spoil < 0.28:
        text.insert(0, "Please enable JavaScript. This site uses cookies.")
    elif spoil < 0.32:
        text = [line.replace(".", "...") for line in text]
    elif spoil < 0.36:
        text.append("function run(a) { return a; }.")
    elif spoil < 0.40:
        text = [line.replace(",", f" [{random.randint(1, 99)}],") for line in text]
    elif spoil < 0.44:
        phrase = sentence(random, words)
        text = [f"{line} {phrase}" if random.random() < 0.4 else line for line in text]
    elif spoil < 0.48:
        text = [line.replace(" the ", f" {random.randint(1, 10**6):,} ") for line in text]
    elif spoil < 0.52:
        text = [line.replace(" and ", " – “and” ").replace("e", "é", 3) for line in text]
    elif spoil < 0.56:
        text = [line.replace(" of ", " https://www.site.org/a-b?c=d ", 2) for line in text]
    elif spoil < 0.60:
        text = [line.replace(" it ", " it's ").replace(" be ", " don't ").replace(" was ", " Mr. ") for line in text]
    if problems and random.random() < 0.2:
        text = random.choice(problems).split("\n") + text
    return "\n\n".join(text) if random.random() < 0.3 else "\n".join(text)


def write_corpus(path, megabytes, gsm8k):
    r = random.Random(7)
    words = vocabulary(r)
    problems = []
    if gsm8k:
        with open(gsm8k, encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        problems = [f"{row['question']}\n{row['answer']}" for row in rows]
    written = 0
    with open(path, "w", encoding="utf-8") as file:
        for problem in problems:
            written += len(problem.encode())
            file.write(json.dumps({"text": problem}) + "\n")
        while written < megabytes * 1e6:
            text = page(r, words, problems)
            written += len(text.encode())
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")


def run(command, core):
    finished = subprocess.run(["taskset", "-c", str(core), *map(str, command)], capture_output=True, text=True)
    if finished.returncode != 0:
        raise SystemExit(f"{command} failed:\n{finished.stderr[-2000:]}")
    return json.loads(finished.stdout[finished.stdout.index("{") :])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nexa", type=pathlib.Path, default=HERE / "../../target/release/nexa")
    parser.add_argument("--venv", type=pathlib.Path, default=pathlib.Path.home() / ".cache/nexa/bench-clean-venv")
    parser.add_argument("--gsm8k", type=pathlib.Path, help="GSM8K's train.jsonl, part of the documents where given")
    parser.add_argument("--megabytes", type=float, default=50)
    parser.add_argument("--differences", type=int, default=10, help="documents of unequal verdict that are shown")
    arguments = parser.parse_args()
    core = min(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        corpus = pathlib.Path(folder) / "documents.jsonl"
        write_corpus(corpus, arguments.megabytes, arguments.gsm8k)
        ours = run([arguments.nexa, "bench", "clean", corpus], core)
        theirs = run([arguments.venv / "bin/python", HERE / "peer.py", corpus], core)
        with open(corpus, encoding="utf-8") as file:
            texts = [json.loads(line)["text"] for line in file]
    report(arguments, texts, ours, theirs)


def report(arguments, texts, ours, theirs):
    megabytes = ours["bytes"] / 1e6
    speeds = [megabytes / side["seconds"] for side in (ours, theirs)]
    pairs = list(zip(ours["verdicts"], theirs["verdicts"]))
    same_side = sum((a is None) == (b is None) for a, b in pairs)
    same_rule = sum(a == b for a, b in pairs)
    kept = sum(a is None for a, _ in pairs)
    print(f"{len(pairs)} documents, {megabytes:.1f} MB, {kept} kept; load {os.getloadavg()[0]:.1f}")
    print(f"nexa       {speeds[0]:8.1f} MB/s on one thread (goal {GOAL_MB_PER_SECOND})")
    print(f"datatrove  {speeds[1]:8.2f} MB/s on one core")
    print(f"ratio      {speeds[0] / speeds[1]:8.1f} (goal {GOAL_RATIO})")
    print(f"same verdict (kept or not): {same_side} of {len(pairs)}; by the same rule: {same_rule}")
    unequal = [(position, pair) for position, pair in enumerate(pairs) if pair[0] != pair[1]]
    for pair, count in collections.Counter(pair for _, pair in unequal).most_common():
        print(f"  {count:6} nexa {pair[0]}, datatrove {pair[1]}")
    for position, pair in unequal[: arguments.differences]:
        print(f"  document {position}: nexa {pair[0]}, datatrove {pair[1]}: {texts[position][:100]!r}")


if __name__ == "__main__":
    main()
