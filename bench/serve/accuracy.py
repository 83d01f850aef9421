#!/usr/bin/env python3
"""What fewer bits cost: the perplexity of texts under one model in several formats.

    python3 bench/serve/accuracy.py --model FILE.gguf --texts TEST.jsonl [--peer PYTHON] [--nexa target/release/nexa] [--count 100]

The reference is the model widened to single precision. Each line of TEST.jsonl has `question` and `answer`, as GSM8K's have; the
texts are those two below each other. Perplexity is exp of the mean negative log probability of all tokens but the first of each.
Intervals of 95 % are those of a paired bootstrap over the texts: both formats are measured on the same draw of them.

Files in Q4_K and Q6_K are made of the widened model by llama.cpp, where PYTHON, which `bash bench/serve/setup.sh` prints, has it. It
gives matrices whose rows are no multiple of 256 long another format; the table tells which a file has.
"""

import argparse
import asyncio
import json
import math
import os
import random
import subprocess
import sys
import tempfile

from load import Server, free_port, get

DRAWS = 5_000

QUANTISE = """
import ctypes, llama_cpp, sys
source, target, kind = sys.argv[1:]
params = llama_cpp.llama_model_quantize_default_params()
params.ftype = getattr(llama_cpp, "LLAMA_FTYPE_MOSTLY_" + kind)
sys.exit(llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)))
"""


async def ask(port: int, text: str) -> list[float]:
    data = json.dumps({"prompt": text, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\nconnection: close\r\n\r\n"
    writer.write(head.encode() + data)
    reply = (await reader.read()).decode()
    writer.close()
    head, _, body = reply.partition("\r\n\r\n")
    assert head.split()[1] == "200", reply
    tokens = json.loads(body)["choices"][0]["prompt_logprobs"][1:]
    # The token of the prompt is told, whatever its rank.
    return [next(iter(token.values()))["logprob"] for token in tokens]


async def measure(args, folder: str, model: str, more: list[str]) -> tuple[list[tuple[float, int]], str]:
    """The negative log probability of each text with its tokens, and the formats that the model has."""
    port = free_port()
    command = [args.nexa, "inference", "--checkpoint", model, "--port", str(port), *more]
    server = Server(command, port, folder)
    try:
        await server.ready("/ready", 600)
        status, info = await get(port, "/v1/model/info")
        assert status == 200, info
        with open(args.texts) as file:
            rows = [json.loads(line) for line in file][: args.count]
        texts = []
        for row in rows:
            logprobs = await ask(port, f"{row['question']}\n{row['answer']}")
            texts.append((-sum(logprobs), len(logprobs)))
    finally:
        server.stop()
    return texts, json.loads(info)["format"]


def perplexity(texts: list[tuple[float, int]]) -> float:
    return math.exp(sum(nats for nats, _ in texts) / sum(tokens for _, tokens in texts))


def interval(texts: list[tuple[float, int]], reference: list[tuple[float, int]]) -> tuple[float, float]:
    """The middle 95 % of the ratio of perplexities over draws of texts, less one."""
    draw = random.Random(1)
    # Both have the same tokens, so a ratio is exp of a difference of means.
    pairs = [(nats - other, tokens) for (nats, tokens), (other, _) in zip(texts, reference, strict=True)]
    ratios = []
    for _ in range(DRAWS):
        drawn = draw.choices(pairs, k=len(pairs))
        ratios.append(math.exp(sum(nats for nats, _ in drawn) / sum(tokens for _, tokens in drawn)) - 1)
    ratios.sort()
    return ratios[int(0.025 * DRAWS)], ratios[int(0.975 * DRAWS) - 1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=os.path.abspath)
    parser.add_argument("--texts", required=True, type=os.path.abspath)
    parser.add_argument("--nexa", default="target/release/nexa", type=os.path.abspath)
    parser.add_argument("--peer", help="a Python that has llama.cpp, for the files in Q4_K and Q6_K")
    parser.add_argument("--count", type=int, default=100)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([args.nexa, "init", folder, "--project", "accuracy"], check=True, capture_output=True)
        done = subprocess.run([args.nexa, "model", "import", args.model], cwd=folder, check=True, capture_output=True, text=True)
        base = done.stdout.split()[-1]
        formats = [("f32", base, []), ("q8_0", base, ["--quantize", "q8_0"]), ("q4_0", base, ["--quantize", "q4_0"])]
        formats += [("the file's own", args.model, []), ("q8_0, keys and values in f16", base, ["--quantize", "q8_0", "--kv-cache-type", "f16"])]
        if args.peer:
            wide = os.path.join(folder, "wide.gguf")
            subprocess.run([args.nexa, "model", "export", base, "--format", "gguf", "--output", wide], cwd=folder, check=True, capture_output=True)
            for kind in ["Q4_K_S", "Q6_K"]:
                target = os.path.join(folder, f"{kind}.gguf")
                subprocess.run([args.peer, "-c", QUANTISE, wide, target, kind], check=True, capture_output=True)
                formats.append((kind, target, []))
        print("| format | of its matrices | perplexity | against f32 | 95 % |\n|---|---|---|---|---|")
        reference = None
        for name, model, more in formats:
            texts, matrices = asyncio.run(measure(args, folder, model, more))
            reference = reference or texts
            ratio = perplexity(texts) / perplexity(reference) - 1
            low, high = interval(texts, reference)
            print(f"| {name} | {matrices} | {perplexity(texts):.4f} | {ratio:+.2%} | {low:+.2%} to {high:+.2%} |", flush=True)
        print(f"\n{sum(tokens for _, tokens in reference)} tokens of {len(reference)} texts")
        if not args.peer:
            print("Q4_K and Q6_K were left out: no `--peer` was named")
    return 0


if __name__ == "__main__":
    sys.exit(main())
