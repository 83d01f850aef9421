#!/usr/bin/env python3
"""Many requests at once, over HTTP.

    python3 bench/serve/load.py streams --model FILE.gguf [--peer PYTHON]     8 answers at the same time, beside llama.cpp's server
    python3 bench/serve/load.py prefix  --model FILE.gguf                     64 requests that begin alike, with the prefix cache and without
    python3 bench/serve/load.py soak    --model FILE.gguf --minutes 10        mixed load with clients that leave; checks memory and metrics

`--nexa target/release/nexa` names the binary. PYTHON is what `bash bench/serve/setup.sh` prints. Servers listen on loopback only,
and only those that were started here are stopped.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

WORDS = "river stone seven carry the of a number sum table light green walk after before under many some where count".split()


def text(seed: int, words: int) -> str:
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) for _ in range(words))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A server that was started here."""

    def __init__(self, command: list[str], port: int, folder: str):
        self.port = port
        self.log = open(os.path.join(folder, f"server-{port}.log"), "w+")
        self.process = subprocess.Popen(command, cwd=folder, stdout=self.log, stderr=self.log)

    async def ready(self, path: str, seconds: float = 120) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                status, _ = await get(self.port, path)
                if status == 200:
                    return
            except OSError:
                pass
            await asyncio.sleep(0.1)
        self.log.seek(0)
        sys.exit(f"the server did not start: {self.log.read()[-2000:]}")

    def resident_bytes(self) -> int:
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


def ours(args, folder: str, more: list[str]) -> Server:
    subprocess.run([args.nexa, "init", folder], check=True, capture_output=True)
    port = free_port()
    command = [args.nexa, "inference", "--checkpoint", args.model, "--port", str(port), *more]
    return Server(command, port, folder)


async def get(port: int, path: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n".encode())
    reply = (await reader.read()).decode()
    writer.close()
    head, _, body = reply.partition("\r\n\r\n")
    return int(head.split()[1]), body


def take_in(told: dict, reply: dict) -> None:
    """Notes what a chunk of a stream, or a whole reply, says."""
    if reply.get("error"):
        told["error"] = reply["error"]
    told["usage"] = reply.get("usage") or told["usage"]
    for choice in reply.get("choices", []):
        piece = choice.get("text") or (choice.get("delta") or {}).get("content")
        if piece:
            told["first"] = told["first"] or time.monotonic()
            told["chunks"] += 1
            told["text"] += piece
        if choice.get("finish_reason"):
            told["reasons"].append(choice["finish_reason"])


async def receive(reader: asyncio.StreamReader, told: dict, streams: bool) -> None:
    """Reads a reply to its end."""
    status = await reader.readline()
    if not status:
        return
    told["status"] = int(status.split()[1])
    headers = {}
    while line := (await reader.readline()).strip().lower():
        name, _, value = line.partition(b":")
        headers[name] = value.strip()
    if streams and told["status"] == 200:
        while line := await reader.readline():
            if line.startswith(b"data: [DONE]"):
                told["complete"] = True
            elif line.startswith(b"data: "):
                take_in(told, json.loads(line[6:]))
        return
    if b"content-length" in headers:
        data = await reader.readexactly(int(headers[b"content-length"]))
    else:
        data = b""
        while size := int(await reader.readline(), 16):
            data += await reader.readexactly(size)
            await reader.readline()
    take_in(told, json.loads(data))
    told["complete"] = True


async def post(port: int, path: str, body: dict, leave_after: float | None = None) -> dict:
    """Sends a request; tells when its first text came, how many pieces of text there were, why answers ended, what the usage says,
    whether the reply came to its end, and which error stood in it."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\nconnection: close\r\n\r\n"
    told = {"started": time.monotonic(), "first": None, "chunks": 0, "status": 0, "usage": None, "text": "", "left": False}
    told |= {"reasons": [], "complete": False, "error": None, "answers": body.get("n", 1)}
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode() + data)
        await asyncio.wait_for(receive(reader, told, bool(body.get("stream"))), leave_after)
    except asyncio.TimeoutError:
        told["left"] = True
    except (asyncio.IncompleteReadError, ConnectionError, ValueError) as broken:
        told["error"] = repr(broken)
    finally:
        writer.close()
    told["ended"] = time.monotonic()
    return told


def problem(told: dict) -> str | None:
    """What is wrong with a reply that its client has waited for."""
    if told["status"] != 200:
        return f"status {told['status']}"
    if told["error"]:
        return f"error {told['error']}"
    if not told["complete"]:
        return "the stream ended without [DONE]"
    if len(told["reasons"]) != told["answers"]:
        return f"{len(told['reasons'])} of {told['answers']} answers have a reason for their end"
    return None


def body(of: int, words: int, tokens: int, **more) -> dict:
    return {"prompt": text(of, words), "max_tokens": tokens, "temperature": 0, "stream": True, **more}


def percentile(values: list[float], share: float) -> float:
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


async def together(port: int, count: int, words: int, tokens: int, seed: int, **more) -> dict:
    """Some answers at the same time: tokens a second in all, and the time to the first."""
    started = time.monotonic()
    asked = [post(port, "/v1/completions", body(seed + n, words, tokens, **more)) for n in range(count)]
    answers = await asyncio.gather(*asked)
    seconds = max(answer["ended"] for answer in answers) - started
    for answer in answers:
        assert problem(answer) is None and answer["first"], (problem(answer), answer)
    written = sum((answer["usage"] or {}).get("completion_tokens") or answer["chunks"] for answer in answers)
    firsts = [answer["first"] - answer["started"] for answer in answers]
    return {"tokens_per_s": written / seconds, "seconds": seconds, "written": written, "firsts": firsts}


async def streams(args) -> None:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        servers = {"ours": ours(args, folder, [])}
        if args.peer:
            port = free_port()
            command = [args.peer, "-m", "llama_cpp.server", "--model", args.model, "--port", str(port), "--host", "127.0.0.1"]
            command += ["--n_ctx", "2048", "--n_threads", str(os.cpu_count()), "--n_threads_batch", str(os.cpu_count()), "--verbose", "false", "--interrupt_requests", "false"]
            servers["llama.cpp"] = Server(command, port, folder)
        try:
            for name, server in servers.items():
                await server.ready("/ready" if name == "ours" else "/v1/models")
                ignore = {"ignore_eos": True, "stream_options": {"include_usage": True}} if name == "ours" else {}
                await together(server.port, 1, 64, 16, 1, **ignore)
            for round_ in range(args.rounds):
                for name, server in servers.items():
                    ignore = {"ignore_eos": True, "stream_options": {"include_usage": True}} if name == "ours" else {}
                    run = await together(server.port, args.streams, 64, args.tokens, 100 * round_, **ignore)
                    found.setdefault(name, []).append(run)
        finally:
            resident = {name: server.resident_bytes() for name, server in servers.items() if server.process.poll() is None}
            for server in servers.values():
                server.stop()
    print(f"| {args.streams} streams | tokens/s in all | first token, median | p95 | resident |\n|---|---|---|---|---|")
    medians = {}
    for name, runs in found.items():
        medians[name] = statistics.median(run["tokens_per_s"] for run in runs)
        firsts = [first for run in runs for first in run["firsts"]]
        print(f"| {name} | {medians[name]:.1f} | {statistics.median(firsts):.2f} s | {percentile(firsts, 0.95):.2f} s | {resident[name] / 1e6:.0f} MB |")
    if "llama.cpp" in medians:
        print(f"\nratio {medians['ours'] / medians['llama.cpp']:.2f}x")


async def prefix(args) -> None:
    shared = text(7, 300)
    found = {}
    for name, more in [("with the cache", []), ("without", ["--no-prefix-cache"])] * args.rounds:
        with tempfile.TemporaryDirectory() as folder:
            server = ours(args, folder, ["--max-queued", "128", *more])
            try:
                await server.ready("/ready")
                started = time.monotonic()
                bodies = [{"prompt": f"{shared} question {n}: {text(n, 8)}", "max_tokens": 4, "temperature": 0, "stream": True} for n in range(64)]
                answers = await asyncio.gather(*(post(server.port, "/v1/completions", one) for one in bodies))
                assert not any(map(problem, answers)), [problem(answer) for answer in answers]
                found.setdefault(name, []).append(time.monotonic() - started)
                texts = [answer["text"] for answer in answers]
                assert found.setdefault("texts", texts) == texts, "the cache changes no token"
            finally:
                server.stop()
    found.pop("texts")
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    print(f"64 requests that begin alike: {medians['with the cache']:.2f} s with the prefix cache, {medians['without']:.2f} s without,"
          f" {medians['without'] / medians['with the cache']:.2f}x")


def metric(page: str, name: str, label: str = "") -> float:
    lines = [line for line in page.splitlines() if line.startswith((f"nexa_{name}{{", f"nexa_{name} ")) and label in line]
    assert lines, f"no metric {name} {label}"
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


GAUGES = ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"]
REASONS = ["stop", "length", "abort", "error"]


def counters(page: str) -> dict[str, float]:
    """What the server says that it has done."""
    found = {reason: metric(page, "request_success_total", f'finished_reason="{reason}"') for reason in REASONS}
    return found | {name: metric(page, name) for name in ["prompt_tokens_total", "generation_tokens_total"]}


def expected(answers: list[dict]) -> dict[str, float]:
    """What it must say after these replies alone. Every answer of a request reads its prompt."""
    found = dict.fromkeys([*REASONS, "prompt_tokens_total", "generation_tokens_total"], 0)
    for told in answers:
        for reason in told["reasons"]:
            found[reason] += 1
        found["prompt_tokens_total"] += told["answers"] * told["usage"]["prompt_tokens"]
        found["generation_tokens_total"] += told["usage"]["completion_tokens"]
    return found


async def idle(port: int) -> str:
    """The metrics, once nothing runs, waits or holds memory."""
    until = time.monotonic() + 10
    while True:
        status, page = await get(port, "/metrics")
        assert status == 200, status
        gauges = {name: metric(page, name) for name in GAUGES}
        if not any(gauges.values()):
            return page
        assert time.monotonic() < until, f"the gauges do not return to 0: {gauges}"
        await asyncio.sleep(0.1)


def mixed(draw: random.Random, number: int) -> dict:
    """A request of any kind."""
    words, tokens = draw.choice([4, 40, 300]), draw.choice([1, 8, 64])
    more = draw.choice([{}, {"temperature": 0.8, "seed": number}, {"n": 2}, {"logprobs": 2}, {"guided_regex": "[a-z ]{1,40}"}])
    one = body(draw.randrange(40), words, tokens, **more)
    if draw.random() < 0.2:
        return one | {"stream": False}
    return one | {"stream_options": {"include_usage": True}}


async def soak(args) -> None:
    draw = random.Random(1)
    answered, gone, refused = [], [], 0
    resident, problems = [], []
    with tempfile.TemporaryDirectory() as folder:
        # Little memory for keys and values, so that what it takes is taken early.
        server = ours(args, folder, ["--max-queued", "16", "--kv-cache", "256MiB"])
        try:
            await server.ready("/ready")
            until = time.monotonic() + 60 * args.minutes
            warm = time.monotonic() + min(60.0, 12 * args.minutes)

            async def client(number: int) -> None:
                nonlocal refused
                while time.monotonic() < until:
                    leave = draw.choice([None, None, None, 0.05, 0.5])
                    told = await post(server.port, "/v1/completions", mixed(draw, number), leave)
                    # Of the text nothing is needed further on.
                    told["text"] = ""
                    if told["left"]:
                        gone.append(told)
                    elif told["status"] == 429:
                        refused += 1
                        gone.append(told)
                        await asyncio.sleep(0.2)
                    else:
                        problems.extend(filter(None, [problem(told)]))
                        answered.append(told)

            async def watch() -> None:
                while time.monotonic() < until:
                    await asyncio.sleep(min(5.0, 3 * args.minutes))
                    if time.monotonic() > warm:
                        resident.append(server.resident_bytes())

            await asyncio.gather(watch(), *(client(number) for number in range(12)))
            assert not problems, f"{len(problems)} of {len(answered)} answers are wrong: {problems[:5]}"
            before = counters(await idle(server.port))
            # Whoever left may have been answered first; a part of what was refused may have been begun.
            least, most = expected(answered), sum(told["answers"] for told in gone)
            for name in ["stop", "length", "prompt_tokens_total", "generation_tokens_total"]:
                assert before[name] >= least[name], (name, before, least)
            total = sum(before[reason] for reason in REASONS)
            sent = sum(told["answers"] for told in answered)
            assert before["error"] == 0 and sent <= total <= sent + most, (before, sent, most)

            # Nobody leaves now, so that all counts are known.
            last = [await post(server.port, "/v1/completions", mixed(draw, number)) for number in range(12)]
            last += await asyncio.gather(*(post(server.port, "/v1/completions", mixed(draw, number)) for number in range(12)))
            assert not any(map(problem, last)), [problem(told) for told in last]
            after = counters(await idle(server.port))
            counted = {name: after[name] - before[name] for name in after}
            assert counted == expected(last), (counted, expected(last))
        finally:
            code = server.stop()
    third = max(1, len(resident) // 3)
    early, late = statistics.median(resident[:third]), statistics.median(resident[-third:])
    left = sum(told["left"] for told in gone)
    print(f"{args.minutes:g} minutes: {len(answered) + len(gone)} requests, {len(answered)} answered, {left} left by their clients, {refused} refused as the queue"
          f" was full, {len(problems)} errors; resident {early / 1e6:.0f} MB after warming up, {late / 1e6:.0f} MB at the end ({late / early - 1:+.1%});"
          f" gauges at 0, counters as the load; exit code {code}")
    assert code == 0 and late < 1.05 * early, "memory grows"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["streams", "prefix", "soak"])
    parser.add_argument("--model", required=True, type=os.path.abspath)
    parser.add_argument("--nexa", default="target/release/nexa", type=os.path.abspath)
    parser.add_argument("--peer", help="a Python that has llama.cpp's server")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=10)
    args = parser.parse_args()
    asyncio.run({"streams": streams, "prefix": prefix, "soak": soak}[args.what](args))
    return 0


if __name__ == "__main__":
    sys.exit(main())
