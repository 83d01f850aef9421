#!/usr/bin/env python3
"""Reading a prompt and writing an answer, ours and llama.cpp's in turn, on the same GGUF file and threads.

    bash bench/serve/setup.sh                                        prints a Python that has llama.cpp
    PYTHON bench/serve/run.py --model FILE.gguf [--nexa target/release/nexa] [--rounds 5]

Prints a table: medians of the rounds, and the ratio of ours to llama.cpp's. Ours is `nexa bench serve`, which also tells what
part of the memory's bandwidth writing takes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time


def peer(model: str, prompt_tokens: int, new_tokens: int) -> None:
    """Measures llama.cpp once, in this process, and prints two rates."""
    import llama_cpp

    llm = llama_cpp.Llama(
        model_path=model,
        n_ctx=prompt_tokens + new_tokens + 8,
        n_batch=512,
        n_threads=os.cpu_count(),
        n_threads_batch=os.cpu_count(),
        logits_all=False,
        verbose=False,
    )
    vocab = llm.n_vocab()
    llm.eval([1, 2, 3])
    rates = {"prefill": [], "decode": []}
    for round_ in range(3):
        llm.reset()
        prompt = [(at * 7919 + round_ * 104729) % vocab for at in range(prompt_tokens)]
        started = time.perf_counter()
        llm.eval(prompt)
        rates["prefill"].append(prompt_tokens / (time.perf_counter() - started))
        started = time.perf_counter()
        for at in range(new_tokens):
            llm.eval([(at * 7919 + round_) % vocab])
        rates["decode"].append(new_tokens / (time.perf_counter() - started))
    print(json.dumps({name: statistics.median(values) for name, values in rates.items()}))


def ours(nexa: str, model: str, prompt_tokens: int, new_tokens: int, streams: int, more: list[str]) -> dict:
    with tempfile.TemporaryDirectory() as lab:
        subprocess.run([nexa, "init", lab], check=True, capture_output=True)
        command = [nexa, "bench", "serve", "--checkpoint", os.path.abspath(model), "--json", "--repeats", "3"]
        command += ["--prompt-tokens", str(prompt_tokens), "--new-tokens", str(new_tokens), "--streams", str(streams)]
        done = subprocess.run(command + more, cwd=lab, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--nexa", default="target/release/nexa")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        peer(args.model, args.prompt_tokens, args.new_tokens)
        return 0
    sizes = (args.prompt_tokens, args.new_tokens)
    found = {"prefill": ([], []), "decode": ([], []), "share": [], "bandwidth": [], "eight": []}
    nexa = os.path.abspath(args.nexa)
    for _ in range(args.rounds):
        one = ours(nexa, args.model, *sizes, 1, [])
        found["prefill"][0].append(one["prefill_tokens_per_s"])
        found["decode"][0].append(one["decode_tokens_per_s"])
        found["share"].append(one["share_of_memory_limit"])
        found["bandwidth"].append(one["read_bytes_per_s"])
        found["eight"].append(ours(nexa, args.model, 64, args.new_tokens, 8, [])["decode_tokens_per_s"])
        command = [sys.executable, __file__, "--peer", "--model", args.model]
        command += ["--prompt-tokens", str(sizes[0]), "--new-tokens", str(sizes[1])]
        theirs = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        found["prefill"][1].append(theirs["prefill"])
        found["decode"][1].append(theirs["decode"])
    median = statistics.median
    print("| what | ours | llama.cpp | ratio |\n|---|---|---|---|")
    for name, what in [("prefill", f"{sizes[0]} tokens read"), ("decode", f"{sizes[1]} tokens written after them")]:
        mine, theirs = (median(values) for values in found[name])
        print(f"| {what} | {mine:.1f} tokens/s | {theirs:.1f} tokens/s | {mine / theirs:.2f}x |")
    print(f"| share of the memory limit ({median(found['bandwidth']) / 1e9:.1f} GB/s) in writing | {median(found['share']):.0%} | | |")
    print(f"| 8 streams, tokens written in all | {median(found['eight']):.1f} tokens/s | | |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
