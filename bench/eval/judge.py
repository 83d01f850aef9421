"""Measures judging 1,000 pairs in both orders against an imitated provider, and prints one line a case.

    cargo build --release
    python3 bench/eval/judge.py

`nexa bench provider` allows so many calls a second (429 beyond that), and `GET /stats` tells what it saw: that, and not our
own word, is what the share of the allowed rate is computed from. The goal is 95 %. See bench/collect for the same of
collecting, and for kills and ceilings, which judging shares.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import subprocess
import tempfile

HERE = pathlib.Path(__file__).parent

RUBRIC = """\
name: bench
criteria:
  - {name: right, question: Is it right?, levels: [no, hardly, partly, mostly, yes]}
"""


def collecting():
    """The bench of collecting, whose provider and clock are used here."""
    spec = importlib.util.spec_from_file_location("collecting", HERE.parent / "collect/run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Lab:
    """A lab with two different answers to each of so many problems."""

    def __init__(self, arguments, folder):
        self.nexa, self.folder = arguments.nexa, pathlib.Path(folder)
        (self.folder / "rubric.yaml").write_text(RUBRIC)
        self.run("init", "--project", "bench")
        self.run("distill", "problems", f"problems={arguments.pairs}")
        self.run("data", "ingest")
        self.run("distill", "inputs")
        # Every answer has a slip of its own, so that hardly any two are the same.
        slips = ["wrong=1", "refusing=0", "truncated=0", "repetitive=0", "rate_limited=0", "failing=0"]
        self.run(
            "distill", "collect", "--teacher", "embedded", "samples_per_prompt=2", *[f"embedded.{slip}" for slip in slips]
        )

    def command(self, *words):
        return [self.nexa, *words]

    def run(self, *words):
        run = subprocess.run(self.command(*words), cwd=self.folder, capture_output=True, text=True)
        if run.returncode != 0:
            raise SystemExit(f"nexa {' '.join(words)} failed:\n{run.stderr[-2000:]}")
        return run.stdout

    def judge(self, url, *settings):
        return self.command(
            "judge", "--outputs", "teacher_outputs", "--judges", f"{url}#mock", "--rubric", "rubric.yaml", "mode=pairs", *settings
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nexa", default=str(HERE.parents[1] / "target/release/nexa"))
    parser.add_argument("--pairs", type=int, default=1_000)
    parser.add_argument("--allowed", type=int, default=100, help="calls a second")
    arguments = parser.parse_args()
    arguments.nexa = str(pathlib.Path(arguments.nexa).absolute())
    collect = collecting()
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores", flush=True)
    told = {
        "in the configuration": ([], [f"max_requests_per_minute={arguments.allowed * 60}"]),
        "in headers": (["tells_limits=true"], []),
        "by 429s alone": ([], []),
    }
    for name, (theirs, ours) in told.items():
        rate = f"requests_per_second={arguments.allowed}"
        with collect.provider(arguments, "latency_ms=50", rate, *theirs) as url, tempfile.TemporaryDirectory() as folder:
            lab = Lab(arguments, folder)
            seconds, usage, code, errors = collect.measured(lab.judge(url, *ours), folder)
            seen = collect.stats(url)
            report = json.loads(lab.run("judge", "report", "--json")) if code == 0 else {}
        share = seen["answered"] / (seen["seconds"] * arguments.allowed)
        print(
            f"judge, told {name}: {100 * share:.1f} % of {arguments.allowed}/s used, {seen['answered']} verdicts for "
            f"{arguments.pairs} pairs, {seen['refused']} of {seen['calls']} calls refused, {report.get('unreadable')} unreadable, "
            f"{seconds:.1f} s, peak {usage.ru_maxrss / 1e3:.0f} MB, exit {code} {errors[-300:] if code else ''}",
            flush=True,
        )


if __name__ == "__main__":
    main()
