"""Runs our trainer and the peer in turn and prints medians and ratios. See README.md beside this file."""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile

HERE = pathlib.Path(__file__).parent

# Case: tokens, samples, rank of the adapters, goal for the speed, goal for the memory.
STEPS = {
    "step-512": (512, 1, 0, 1.3, 0.7),
    "step-2048": (2048, 4, 0, 1.3, None),
    "lora-512": (512, 1, 16, 1.3, None),
}


def last_json(command, environment=None):
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    if run.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{run.stdout[-2000:]}\n{run.stderr[-4000:]}")
    lines = [line for line in run.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1] if lines else run.stdout)


def ours_step(arguments, tokens, samples, rank):
    command = [arguments.nexa, "bench", "train", "--json", "--tokens", str(tokens), "--samples", str(samples)]
    command += ["--steps", str(arguments.steps)]
    if rank:
        command += ["adapter=lora", f"lora_r={rank}", f"lora_alpha={2 * rank}"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def peer(arguments, *words):
    python = arguments.venv / "bin/python"
    threads = str(len(os.sched_getaffinity(0)))
    return last_json([python, HERE / "peer.py", *map(str, words), "--threads", threads])


def rounds(arguments, ours, theirs):
    """Medians of both sides, measured in turn."""
    both = [(ours(), theirs()) for _ in range(arguments.rounds)]
    return [side for side in zip(*both)]


def report(case, speeds, memories, speed_goal, memory_goal):
    ours, theirs = map(statistics.median, speeds)
    ours_bytes, theirs_bytes = map(statistics.median, memories)
    ratio, memory = ours / theirs, ours_bytes / theirs_bytes
    goal = f"goal {speed_goal}x" + (f", {memory_goal}x memory" if memory_goal else "")
    print(
        f"| {case} | {ours:.1f} | {theirs:.1f} | {ratio:.2f}x | {ours_bytes / 1e9:.2f} GB | {theirs_bytes / 1e9:.2f} GB "
        f"| {memory:.2f}x | {goal} |",
        flush=True,
    )


def step_case(arguments, case):
    tokens, samples, rank, speed_goal, memory_goal = STEPS[case]
    words = ["step", "--tokens", tokens, "--samples", samples, "--lora-r", rank, "--steps", arguments.steps]
    ours, theirs = rounds(
        arguments, lambda: ours_step(arguments, tokens, samples, rank), lambda: peer(arguments, *words)
    )
    speeds = [[tokens / statistics.median(run["step_seconds"]) for run in side] for side in (ours, theirs)]
    memories = [[run["peak_memory_bytes"] for run in side] for side in (ours, theirs)]
    report(case, speeds, memories, speed_goal, memory_goal)


def conversations(source, target, rows):
    """GSM8K as conversations, in the order of the file."""
    with open(source) as lines, open(target, "w") as output:
        for _, line in zip(range(rows), lines):
            row = json.loads(line)
            messages = [
                {"role": "user", "content": row["question"]},
                {"role": "assistant", "content": row["answer"]},
            ]
            output.write(json.dumps({"messages": messages}) + "\n")


def ours_sft(arguments, data):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="nexa-bench-"))
    job = {
        "model": str(arguments.model),
        "data": str(data),
        "folder": str(folder),
    }
    command = [arguments.nexa, "bench", "sft", "--json", "--model", job["model"], "--data", job["data"]]
    command += ["--folder", job["folder"], "--steps", str(arguments.steps), "--batch", str(arguments.batch)]
    try:
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    finally:
        shutil.rmtree(folder)


def sft_case(arguments):
    if not arguments.model or not arguments.gsm8k:
        print("| sft-gsm8k | skipped: give --model and --gsm8k | | | | | | |")
        return
    data = pathlib.Path(tempfile.mkdtemp(prefix="nexa-bench-")) / "gsm8k.jsonl"
    conversations(arguments.gsm8k, data, 2000)
    words = ["sft", "--model", arguments.model, "--data", data, "--steps", arguments.steps, "--batch", arguments.batch]
    for name, extra, goal in [("TRL's defaults", [], 2.0), ("TRL's best", ["--best"], 1.3)]:
        ours, theirs = rounds(
            arguments, lambda: ours_sft(arguments, data), lambda extra=extra: peer(arguments, *words, *extra)
        )
        speeds = [[run["trained_tokens"] / sum(run["step_seconds"]) for run in side] for side in (ours, theirs)]
        memories = [[run["peak_memory_bytes"] for run in side] for side in (ours, theirs)]
        report(f"sft-gsm8k, trained tokens, {name}", speeds, memories, goal, None)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="step-512,step-2048,lora-512,sft-gsm8k")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8, help="samples of a step of fine-tuning")
    parser.add_argument("--nexa", default="target/release/nexa")
    parser.add_argument("--model", type=pathlib.Path, help="a folder of Hugging Face's form, for sft-gsm8k")
    parser.add_argument("--gsm8k", type=pathlib.Path, help="GSM8K's train.jsonl")
    home = pathlib.Path(os.environ.get("NEXA_BENCH_VENV", pathlib.Path.home() / ".cache/nexa/bench-venv"))
    parser.add_argument("--venv", type=pathlib.Path, default=home)
    arguments = parser.parse_args()
    print("| case | ours, tokens/s | peer, tokens/s | speed | our memory | peer's memory | memory | |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for case in arguments.cases.split(","):
        sft_case(arguments) if case == "sft-gsm8k" else step_case(arguments, case)


if __name__ == "__main__":
    main()
