"""Measures collecting against an imitated provider and prints one line a case. See README.md beside this file."""

import argparse
import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).parent
TOKEN_USD = 1e-6


@contextlib.contextmanager
def provider(arguments, *settings):
    """A provider of its own for a case; yields its base URL."""
    command = [arguments.nexa, "bench", "provider", *settings]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


def stats(base_url):
    with urllib.request.urlopen(base_url.removesuffix("/v1") + "/stats") as reply:
        return json.load(reply)


class Lab:
    """A lab with so many prompts, ready to be collected."""

    def __init__(self, arguments, folder, prompts, settings=""):
        self.nexa, self.folder = arguments.nexa, pathlib.Path(folder)
        self.run("init", "--project", "bench")
        with open(self.folder / "nexa.yaml", "a") as file:
            file.write(settings)
        with open(self.folder / "prompts.jsonl", "w") as file:
            for n in range(prompts):
                file.write(json.dumps({"id": f"p{n}", "question": f"Question {n}: say something about {n}."}) + "\n")
        self.run("data", "ingest", "paths=[prompts.jsonl]")
        self.run("distill", "inputs")

    def command(self, *words):
        return [self.nexa, *words]

    def run(self, *words):
        run = subprocess.run(self.command(*words), cwd=self.folder, capture_output=True, text=True)
        if run.returncode != 0:
            raise SystemExit(f"nexa {' '.join(words)} failed:\n{run.stderr[-2000:]}")
        return run.stdout

    def collect(self, base_url, *settings):
        return self.command("distill", "collect", "--teacher", f"{base_url}#mock", *settings)

    def answers(self):
        """The keys of the answers that are kept, in the order in which they came."""
        logs = (self.folder / ".nexa/cache/responses").glob("*.jsonl")
        return [json.loads(line)["key"] for log in logs for line in open(log) if line.endswith("\n")]


def measured(command, folder):
    """Runs a command; returns its seconds, what it used, its exit code and what it said."""
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    process.returncode = code
    return time.monotonic() - started, usage, code, errors


def rate(arguments):
    allowed = 200
    told = {
        "in the configuration": ([], [f"max_requests_per_minute={allowed * 60}"]),
        "in headers": (["tells_limits=true"], []),
        "by 429s alone": ([], []),
    }
    for name, (theirs, ours) in told.items():
        with provider(arguments, "latency_ms=50", f"requests_per_second={allowed}", *theirs) as url:
            with tempfile.TemporaryDirectory() as folder:
                lab = Lab(arguments, folder, arguments.rate_prompts)
                _, _, code, errors = measured(lab.collect(url, *ours), folder)
            seen = stats(url)
        share = seen["answered"] / (seen["seconds"] * allowed)
        print(
            f"rate, told {name}: {100 * share:.1f} % of {allowed}/s used, {seen['refused']} of {seen['calls']} calls "
            f"refused, exit {code} {errors[-300:] if code else ''}",
            flush=True,
        )


def kills(arguments):
    prompts = 3_000
    chance = random.Random(arguments.seed)
    with provider(arguments, "latency_ms=30", "faults.failing=0.02", "faults.rate_limited=0.02") as url:
        with tempfile.TemporaryDirectory() as folder:
            lab = Lab(arguments, folder, prompts)
            killed, kept = 0, []
            while killed < 10:
                process = subprocess.Popen(lab.collect(url), cwd=folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
                try:
                    process.wait(timeout=chance.uniform(0.1, 0.8))
                    break
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    killed += 1
                    kept.append(len(lab.answers()))
            lab.run(*lab.collect(url)[1:])
            keys = lab.answers()
            broken = json.loads(lab.run(*lab.collect(url)[1:], "--json"))
        seen = stats(url)
        with tempfile.TemporaryDirectory() as folder:
            lab = Lab(arguments, folder, prompts)
            straight = json.loads(lab.run(*lab.collect(url)[1:], "--json"))
    print(
        f"kills: {killed} kills, with {kept} answers kept; {len(keys) - len(set(keys))} of {len(keys)} kept answers asked for again; "
        f"{seen['repeated']} answers to calls that a kill cut off; same data set: "
        f"{broken['content_hash'] == straight['content_hash']}",
        flush=True,
    )


def budget(arguments):
    prices = "prices: {models: {mock: {input_usd_per_million: 1.0, output_usd_per_million: 1.0}}}\n"
    faults = [f"faults.{kind}=0.03" for kind in ("failing", "malformed", "disconnecting", "rate_limited", "truncated")]
    for ceiling in (0.005, 0.02):
        with provider(arguments, "latency_ms=10", *faults) as url:
            with tempfile.TemporaryDirectory() as folder:
                lab = Lab(arguments, folder, 2_000, prices)
                command = lab.collect(url, "--max-cost", str(ceiling), "max_tokens=64")
                _, _, code, _ = measured(command, folder)
            seen = stats(url)
        spent = (seen["prompt_tokens"] + seen["completion_tokens"]) * TOKEN_USD
        print(
            f"budget: ceiling ${ceiling:.4f}, the provider counts ${spent:.4f} ({seen['answered']} answers), "
            f"overspent ${max(0.0, spent - ceiling):.4f}, exit {code}",
            flush=True,
        )


def scale(arguments):
    prompts, latency, concurrency = arguments.scale_prompts, 0.05, 64
    with provider(arguments, "latency_ms=50") as url, tempfile.TemporaryDirectory() as folder:
        lab = Lab(arguments, folder, prompts)
        seconds, usage, code, errors = measured(lab.collect(url, f"max_concurrent_requests={concurrency}"), folder)
        seen = stats(url)
    ideal = prompts / concurrency * latency
    print(
        f"scale: {prompts} prompts in {seconds:.2f} s, {seconds / ideal:.3f}x the ideal {ideal:.2f} s; calls alone "
        f"{seen['seconds'] + latency:.2f} s, {(seen['seconds'] + latency) / ideal:.3f}x; "
        f"processor {usage.ru_utime + usage.ru_stime:.2f} s, peak {usage.ru_maxrss / 1e3:.0f} MB, "
        f"exit {code} {errors[-300:] if code else ''}",
        flush=True,
    )


def peer(arguments):
    prompts, latency, concurrency = arguments.peer_prompts, 0.05, 64
    ideal = prompts / concurrency * latency
    python = arguments.venv / "bin/python"
    with provider(arguments, "latency_ms=50") as url, tempfile.TemporaryDirectory() as folder:
        command = [python, HERE / "peer.py", url, str(prompts), str(concurrency)]
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "HOME": folder})
        if run.returncode != 0:
            print(f"peer: failed: {run.stderr[-1500:]}", flush=True)
            return
        theirs = json.loads(run.stdout.splitlines()[-1])["seconds"]
        their_calls = stats(url)
    with provider(arguments, "latency_ms=50") as url, tempfile.TemporaryDirectory() as folder:
        lab = Lab(arguments, folder, prompts)
        ours, _, _, _ = measured(lab.collect(url, f"max_concurrent_requests={concurrency}"), folder)
        our_calls = stats(url)
    def overheads(*seconds):
        ours, theirs = (1e3 * max(spent - ideal, 1e-9) / prompts for spent in seconds)
        return f"{ours:.3f} ms and {theirs:.3f} ms a call, {theirs / ours:.1f}x"

    calls = [seen["seconds"] + latency for seen in (our_calls, their_calls)]
    print(
        f"peer: {prompts} prompts, ideal {ideal:.2f} s; whole run: ours {ours:.2f} s ({our_calls['calls']} calls), Curator "
        f"{theirs:.2f} s ({their_calls['calls']} calls), overhead {overheads(ours, theirs)}; from the first call to the "
        f"last: {calls[0]:.2f} s and {calls[1]:.2f} s, overhead {overheads(*calls)}",
        flush=True,
    )


CASES = {"rate": rate, "kills": kills, "budget": budget, "scale": scale, "peer": peer}


def main():
    cache = pathlib.Path.home() / ".cache/nexa"
    parser = argparse.ArgumentParser()
    parser.add_argument("--nexa", default=str(HERE.parents[1] / "target/release/nexa"))
    parser.add_argument("--venv", type=pathlib.Path, default=os.environ.get("NEXA_COLLECT_VENV", cache / "collect-venv"))
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--rate-prompts", type=int, default=4_000)
    parser.add_argument("--scale-prompts", type=int, default=10_000)
    parser.add_argument("--peer-prompts", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.venv = pathlib.Path(arguments.venv)
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores", flush=True)
    for case in arguments.cases.split(","):
        CASES[case](arguments)


if __name__ == "__main__":
    main()
