"""Evaluates the same model on the same task files with lm-evaluation-harness and with nexa in turn. See README.md."""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile

import sides
import tasks
from sides import Settings

# Case: task files, settings, settings of the trials that find the harness's batch size, goal.
CASES = {
    "blimp": ([tasks.GROUP], Settings(), Settings(limit=100), 3.0),
    "gsm8k": (["gsm8k"], Settings(limit=50, num_fewshot=5), Settings(limit=8, num_fewshot=5), 2.0),
}


def nexa(arguments, folder, *words):
    done = subprocess.run([str(word) for word in (arguments.nexa, *words)], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"nexa {' '.join(map(str, words))} failed:\n{done.stderr}")


def laboratory(arguments, folder):
    """A new lab that holds the model, so that nothing of an earlier round is remembered."""
    shutil.rmtree(folder, ignore_errors=True)
    nexa(arguments, folder.parent, "init", folder.name, "--project", "bench")
    nexa(arguments, folder, "model", "import", arguments.model, "--output", "model")
    return folder


def ours(arguments, work, files, names, settings):
    lab = laboratory(arguments, work / "lab")
    return sides.ours(arguments.nexa, lab, "model", names, files, settings, work / "ours", arguments.threads)


def theirs(arguments, work, files, names, settings, size):
    output = work / "theirs"
    shutil.rmtree(output, ignore_errors=True)
    return sides.theirs(arguments.venv, work / "model", names, files, settings, output, size, arguments.threads)


def best_batch_size(arguments, work, files, names, trial):
    """The batch size with which the harness is fastest on some of the items."""
    sizes = arguments.batch_sizes.split(",")
    if len(sizes) == 1:
        return sizes[0]
    took = {size: theirs(arguments, work, files, names, trial, size).seconds for size in sizes}
    print("  harness by batch size:", ", ".join(f"{size} {seconds:.1f} s" for size, seconds in took.items()), flush=True)
    return min(took, key=took.get)


def case(arguments, work, files, name):
    names, settings, trial, goal = CASES[name]
    size = best_batch_size(arguments, work, files, names, trial)
    once = Settings(limit=1, num_fewshot=settings.num_fewshot)
    starts = (
        ours(arguments, work, files, names, once).seconds, theirs(arguments, work, files, names, once, size).seconds,
    )
    rounds = []
    for round_ in range(arguments.rounds):
        took = ours(arguments, work, files, names, settings), theirs(arguments, work, files, names, settings, size)
        rounds.append(took)
        load = os.getloadavg()[0]
        print(f"  round {round_ + 1}: nexa {took[0].seconds:.1f} s, harness {took[1].seconds:.1f} s; load {load:.1f}", flush=True)
    seconds = [statistics.median(side.seconds for side in taken) for taken in zip(*rounds)]
    memory = [max(side.peak_bytes for side in taken) / 1e9 for taken in zip(*rounds)]
    inside = [whole - start for whole, start in zip(seconds, starts)]
    print(
        f"| {name} | {seconds[0]:.1f} s | {seconds[1]:.1f} s (batch {size}) | {seconds[1] / seconds[0]:.2f}x | {goal:g}x "
        f"| {inside[1] / inside[0]:.2f}x | {memory[0]:.2f} GB | {memory[1]:.2f} GB |", flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nexa", type=pathlib.Path, default=sides.NEXA)
    parser.add_argument("--venv", type=pathlib.Path, default=sides.VENV)
    parser.add_argument("--model", type=pathlib.Path, required=True, help="a GGUF file, or a folder of Hugging Face")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="holds blimp/*.jsonl, gsm8k/train.jsonl, gsm8k/test.jsonl")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-sizes", default="16,64,auto", help="those of the harness that are tried; the fastest is used")
    parser.add_argument("--work", type=pathlib.Path, help="a folder for what both write; else a temporary one")
    arguments = parser.parse_args()
    for name in ("nexa", "model", "data"):
        setattr(arguments, name, getattr(arguments, name).resolve())
    with tempfile.TemporaryDirectory() as temporary:
        work = (arguments.work or pathlib.Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        files = tasks.prepare(work, arguments.data / "blimp", arguments.data / "gsm8k")
        shutil.rmtree(work / "model", ignore_errors=True)
        lab = laboratory(arguments, work / "lab")
        nexa(arguments, lab, "model", "export", "model", "--format", "safetensors", "--output", work / "model")
        config = json.loads((work / "model/config.json").read_text(encoding="utf-8"))
        print(f"{config['architectures'][0]}, f32, {arguments.threads} threads, load {os.getloadavg()[0]:.1f} at the begin")
        print("| case | nexa | harness | ratio | goal | ratio without start and loading | nexa's memory | harness's memory |")
        print("|---|---|---|---|---|---|---|---|", flush=True)
        for name in arguments.cases.split(","):
            case(arguments, work, files, name)


if __name__ == "__main__":
    main()
