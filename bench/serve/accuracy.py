#!/usr/bin/env python3
"""What fewer bits cost: the perplexity of texts under one model in several formats.

    python3 bench/serve/accuracy.py --model FILE.gguf --texts TEST.jsonl [--nexa target/release/nexa] [--count 100]

The reference is the model widened to single precision. Each line of TEST.jsonl has `question` and `answer`, as GSM8K's have; the
texts are those two below each other. Perplexity is exp of the mean negative log probability of all tokens but the first of each.
"""

import argparse
import asyncio
import json
import math
import os
import subprocess
import sys
import tempfile

from load import Server, free_port


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


async def perplexity(args, folder: str, model: str, more: list[str]) -> tuple[float, int]:
    port = free_port()
    command = [args.nexa, "inference", "--checkpoint", model, "--port", str(port), *more]
    server = Server(command, port, folder)
    try:
        await server.ready("/ready", 600)
        with open(args.texts) as file:
            rows = [json.loads(line) for line in file][: args.count]
        logprobs = []
        for row in rows:
            logprobs += await ask(port, f"{row['question']}\n{row['answer']}")
    finally:
        server.stop()
    return math.exp(-sum(logprobs) / len(logprobs)), len(logprobs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=os.path.abspath)
    parser.add_argument("--texts", required=True, type=os.path.abspath)
    parser.add_argument("--nexa", default="target/release/nexa", type=os.path.abspath)
    parser.add_argument("--count", type=int, default=100)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([args.nexa, "init", folder, "--project", "accuracy"], check=True, capture_output=True)
        done = subprocess.run([args.nexa, "model", "import", args.model], cwd=folder, check=True, capture_output=True, text=True)
        base = done.stdout.split()[-1]
        formats = [("f32", base, []), ("q8_0", base, ["--quantize", "q8_0"]), ("q4_0", base, ["--quantize", "q4_0"])]
        formats += [("the file's own", args.model, []), ("q8_0, keys and values in f16", base, ["--quantize", "q8_0", "--kv-cache-type", "f16"])]
        print("| format | perplexity | against f32 |\n|---|---|---|")
        reference = None
        for name, model, more in formats:
            found, tokens = asyncio.run(perplexity(args, folder, model, more))
            reference = reference or found
            print(f"| {name} | {found:.4f} | {found / reference - 1:+.2%} |", flush=True)
        print(f"\n{tokens} tokens")
    return 0


if __name__ == "__main__":
    sys.exit(main())
