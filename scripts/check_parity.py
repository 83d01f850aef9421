#!/usr/bin/env python3
"""Holds `nexa evaluate` against lm-evaluation-harness, sample by sample.

    python3 scripts/check_parity.py --data FOLDER --model FILE.gguf --work FOLDER [--nexa target/release/nexa]

`--data` holds `blimp/*.jsonl` (four files of BLiMP) and `gsm8k/train.jsonl`, `gsm8k/test.jsonl`; `--model` is what
`scripts/fetch_smollm2.py` prints. Both programs load the same f32 weights: nexa takes the model into a lab below `--work` and
writes it as a folder of Hugging Face, whose context is set to 2,048 tokens so that a text can be longer. Two small models of
random weights, whose tokenizers add a BOS, are made as well (`bench/eval/fixture.py`).

The harness (`bench/eval/setup.sh` installs it) runs offline in one process, f32, two threads; what it said is kept in `--work` and
taken from there the next time. For every task of `bench/eval/tasks.py` these must be equal: rows in their order, prompts as
text, what the filters made of answers, every metric of every row; log-likelihoods to 1e-3 (beyond 1,000 nats to a millionth,
which is what f32 holds); then all metrics of `results.json` with their standard errors. Prints a table and exits with 1
where anything differs.

    --runs NAME,NAME   only these        --theirs-only   makes the harness's side
    --again SIZE       holds the harness at another batch size against itself instead: what of a difference is rounding
"""

import argparse
import collections
import hashlib
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench/eval"))

import sides  # noqa: E402
import tasks  # noqa: E402
from sides import Settings  # noqa: E402

NATS = 1e-3
RELATIVE = 1e-6
# Of metrics that are means of log-likelihoods; those of counts must be equal up to the order of their sum.
RESULT = {"counts": 1e-12, "likelihoods": 1e-4}
LIKELIHOODS = ("perplexity", "bits_per_byte", "brier_score")
CONTEXT = 2048
THREADS = 2
PLAIN = [*tasks.CHOICES, *tasks.TEXTS, *tasks.ANSWERS]
CHAT = [*tasks.CHOICES, *tasks.ANSWERS]
SYSTEM = "You answer in a single word."

# Run: model, tasks, settings.
RUNS = {
    "smollm2 blimp": ("smollm2", [tasks.GROUP], Settings()),
    "smollm2 gsm8k": ("smollm2", ["gsm8k"], Settings(limit=50, num_fewshot=5)),
    "smollm2 plain": ("smollm2", PLAIN, Settings(limit=20)),
    "smollm2 chat": ("smollm2", CHAT, Settings(limit=8, num_fewshot=2, chat=True)),
    "smollm2 chat turns": ("smollm2", CHAT, Settings(limit=8, num_fewshot=2, chat=True, multiturn=True, system=SYSTEM)),
}
for kind in ("bytes", "words"):
    RUNS |= {
        f"{kind} plain": (kind, [tasks.GROUP, "gsm8k_short", *PLAIN], Settings(limit=40)),
        f"{kind} chat": (kind, CHAT, Settings(limit=20, num_fewshot=1, chat=True)),
        f"{kind} chat turns": (kind, CHAT, Settings(limit=20, num_fewshot=1, chat=True, multiturn=True, system=SYSTEM)),
    }


class Comparison:
    """What was found of one task: counts, the largest difference, and the first words on each kind of failure."""

    def __init__(self):
        self.items = self.scored = 0
        self.largest = 0.0
        self.failures = collections.defaultdict(list)

    def differ(self, what, where, one, other):
        self.failures[what].append(f"{where}: harness {shorten(one)}, nexa {shorten(other)}")

    def equal(self, what, where, one, other):
        if one != other:
            self.differ(what, where, one, other)

    def score(self, where, one, other):
        self.scored += 1
        difference = abs(one - other)
        self.largest = max(self.largest, difference)
        if not difference <= max(NATS, RELATIVE * abs(one)):
            self.differ("log-likelihoods", where, one, other)


def shorten(value, length=160):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= length else f"{text[: length // 2]} … {text[-length // 2 :]}"


def parting(one, other):
    """The text of two answers about the place where they part."""
    at = next((at for at, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))
    return one[max(0, at - 30) : at + 30], other[max(0, at - 30) : at + 30]


def prompts(row):
    """The texts of the requests, and what generation was asked for; bare of defaults, which each side fills in as it likes."""
    found = []
    for request in row["arguments"].values():
        words = [request[name] for name in sorted(request)]
        asked = next((word for word in words if isinstance(word, dict)), {})
        until = asked.get("until", [])
        found.append(([word for word in words if isinstance(word, str)], [until] if isinstance(until, str) else until))
    return found


def leaves(value):
    """The numbers, verdicts and texts of nested lists, in order; the harness writes all of them as texts."""
    if isinstance(value, (list, tuple)):
        return [leaf for one in value for leaf in leaves(one)]
    text = str(value)
    is_array = text.startswith("[") and text.endswith("]")  # one of NumPy, as it prints
    return text[1:-1].split() if is_array else [text]


def number(text):
    try:
        return float(text)
    except ValueError:
        return None


def generates(row):
    return any(isinstance(word, dict) for request in row["arguments"].values() for word in request.values())


def compare_responses(found, where, theirs, ours):
    """Holds answers against each other as texts, log-likelihoods as numbers, and whether each was greedy."""
    one, other = leaves(theirs["resps"]), leaves(ours["resps"])
    if len(one) != len(other):
        return found.differ("responses", where, one, other)
    for a, b in zip(one, other):
        if generates(theirs):
            if a != b:
                found.differ("answers", where, *parting(a, b))
        elif a in ("True", "False"):
            found.equal("greedy ones", where, a, b)
        elif number(b) is None:
            found.differ("log-likelihoods", where, a, b)
        else:
            found.score(where, number(a), number(b))


def compare_metric(found, where, name, one, other):
    one, other = leaves(one), leaves(other)
    numbers = [(number(a), number(b)) for a, b in zip(one, other)]
    close = all(
        a == b or (None not in (x, y) and math.isclose(x, y, rel_tol=RELATIVE, abs_tol=NATS))
        for a, b, (x, y) in zip(one, other, numbers)
    )
    exact = not name.startswith(("acc", "exact_match")) or all(x == y for x, y in numbers)
    if len(one) != len(other) or not close or not exact:
        found.differ(f"`{name}` of rows", where, one, other)


def compare_rows(one, other):
    """Compares the rows of a task: those of the harness and those of nexa."""
    found = Comparison()
    found.equal("number of rows", "samples", len(one), len(other))
    for theirs, ours in zip(one, other):
        found.items += 1
        where = f"{theirs['doc_id']} ({theirs['filter']})"
        for name in ("doc_id", "filter", "doc"):
            found.equal("rows", f"{where} {name}", theirs[name], ours.get(name))
        found.equal("targets", where, theirs["target"], str(ours.get("target")))
        if prompts(theirs) != prompts(ours):
            pairs = [(a, b) for a, b in zip(prompts(theirs), prompts(ours)) if a != b] or [(prompts(theirs), prompts(ours))]
            found.differ("prompts", where, *parting(json.dumps(pairs[0][0], ensure_ascii=False), json.dumps(pairs[0][1], ensure_ascii=False)))
        compare_responses(found, where, theirs, ours)
        if generates(theirs):
            found.equal("filtered answers", where, leaves(theirs["filtered_resps"]), leaves(ours.get("filtered_resps", [])))
        for name in theirs["metrics"]:
            compare_metric(found, where, name, theirs[name], ours.get(name, []))
    return found


def compare_results(found, one, other):
    """Compares the metrics of a task or a group with their standard errors, and returns how many there were."""
    names = [name for name in one if "," in name]
    for name in names:
        a, b = one[name], other.get(name)
        if isinstance(a, str) or b is None or isinstance(b, str):
            found.equal("results", name, a, b)
            continue
        kind = "likelihoods" if name.startswith(LIKELIHOODS) or "perplexity" in name else "counts"
        if not (math.isclose(a, b, rel_tol=RESULT[kind]) or (math.isnan(a) and math.isnan(b))):
            found.differ("results", name, a, b)
    return len(names)


def compare(run, theirs, ours):
    """Prints the lines of one run, and returns how many tasks differ."""
    rows, results = (sides.samples(theirs), sides.samples(ours)), (sides.results(theirs), sides.results(ours))
    failed = 0
    for task in results[0]:
        found = compare_rows(*(side.get(task, []) for side in rows)) if task in rows[0] else Comparison()
        metrics = compare_results(found, results[0][task], results[1].get(task, {}))
        failed += bool(found.failures)
        largest = f"{found.largest:.1e}" if found.scored else ""
        verdict = "differs" if found.failures else "equal"
        print(f"| {run} | {task} | {found.items} | {found.scored or ''} | {largest} | {metrics} | {verdict} |", flush=True)
        for what, lines in found.failures.items():
            print(f"    {len(lines)} {what} differ; the first: {lines[0]}", flush=True)
    return failed


def laboratory(arguments):
    """A new lab, in which no answer of an earlier run is remembered."""
    lab = arguments.work / "lab"
    shutil.rmtree(lab, ignore_errors=True)
    command(arguments, lab.parent, "init", lab.name, "--project", "parity")
    return lab


def prepare_model(arguments, lab):
    """Takes the GGUF file into the lab, and writes it as a folder of Hugging Face whose context is short."""
    folder = arguments.work / "models/smollm2"
    if not folder.exists():
        command(arguments, lab, "model", "import", arguments.model.resolve(), "--output", "whole")
        command(arguments, lab, "model", "export", "whole", "--format", "safetensors", "--output", folder)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["max_position_embeddings"] = CONTEXT
        (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


def prepare_fixtures(arguments, files):
    for kind in ("bytes", "words"):
        folder = arguments.work / "models" / kind
        if not folder.exists():
            texts = sorted((arguments.work / "data").glob("*.jsonl"))
            texts += [arguments.data / "gsm8k/train.jsonl", *sorted((arguments.data / "blimp").glob("*.jsonl"))]
            made = [sides.python(arguments.venv), sides.HERE / "fixture.py", kind, folder, *texts]
            subprocess.run([str(word) for word in made], check=True)


def command(arguments, folder, *words):
    done = subprocess.run([str(arguments.nexa), *map(str, words)], cwd=folder, text=True, capture_output=True)
    if done.returncode != 0:
        raise SystemExit(f"nexa {' '.join(map(str, words))} failed:\n{done.stderr}")


def fingerprint(files):
    """Of all task files and the rows beside them."""
    digest = hashlib.sha256()
    for path in sorted([*files.glob("*.yaml"), *(files.parent / "data").glob("*.jsonl")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def harness_side(arguments, run, files, batch_size):
    """The folder with what the harness said, which is made where it is not there or was made from something else."""
    model, names, settings = RUNS[run]
    output = arguments.work / f"theirs-{batch_size}" / run.replace(" ", "-")
    asked = json.dumps([model, names, settings.flags(), batch_size, fingerprint(files)])
    if not (output / "asked").exists() or (output / "asked").read_text() != asked:
        shutil.rmtree(output, ignore_errors=True)
        took = sides.theirs(
            arguments.venv, arguments.work / "models" / model, names, files, settings, output, batch_size, THREADS
        )
        print(f"harness, {run}: {took.seconds:.0f} s, {took.peak_bytes / 1e9:.2f} GB", file=sys.stderr, flush=True)
        (output / "asked").write_text(asked)
    return output


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--nexa", type=Path, default=sides.NEXA)
    parser.add_argument("--venv", type=Path, default=sides.VENV)
    parser.add_argument("--runs", default=",".join(RUNS))
    parser.add_argument("--batch-size", default="16")
    parser.add_argument("--theirs-only", action="store_true")
    parser.add_argument("--again", metavar="SIZE")
    arguments = parser.parse_args()
    for name in ("data", "work", "nexa"):
        setattr(arguments, name, getattr(arguments, name).resolve())
    arguments.work.mkdir(parents=True, exist_ok=True)
    files = tasks.prepare(arguments.work, arguments.data / "blimp", arguments.data / "gsm8k", long_characters=16_000)
    lab = laboratory(arguments)
    prepare_model(arguments, lab)
    prepare_fixtures(arguments, files)
    if not arguments.theirs_only:
        print("| run | task | rows | log-likelihoods | largest difference | metrics | |\n|---|---|---|---|---|---|---|")
    failed = 0
    imported = set()
    for run in arguments.runs.split(","):
        model, names, settings = RUNS[run]
        theirs = harness_side(arguments, run, files, arguments.batch_size)
        if arguments.theirs_only:
            continue
        if arguments.again:
            ours = harness_side(arguments, run, files, arguments.again)
        else:
            if model not in imported:
                command(arguments, lab, "model", "import", arguments.work / "models" / model, "--output", model)
                imported.add(model)
            ours = arguments.work / "ours" / run.replace(" ", "-")
            took = sides.ours(arguments.nexa, lab, model, names, files, settings, ours, THREADS)
            print(f"nexa, {run}: {took.seconds:.0f} s, {took.peak_bytes / 1e9:.2f} GB", file=sys.stderr, flush=True)
        failed += compare(run, theirs, ours)
    if not arguments.theirs_only:
        print(f"{failed} tasks differ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
