"""Runs lm-evaluation-harness and `nexa evaluate` over the same task files, and reads what both leave behind.

Both write `results*.json` and `samples_TASK*.jsonl` of the same form, the harness with the time in the names.
"""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
NEXA = HERE.parent.parent / "target/release/nexa"
VENV = pathlib.Path(
    os.environ.get("NEXA_BENCH_EVAL_VENV")
    or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "nexa/bench-eval-venv"
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is asked of both, besides the tasks and the model."""

    limit: int | None = None
    num_fewshot: int | None = None
    chat: bool = False
    multiturn: bool = False
    system: str | None = None

    def flags(self):
        """As options of the harness."""
        given = []
        for name, value in [("limit", self.limit), ("num_fewshot", self.num_fewshot), ("system_instruction", self.system)]:
            if value is not None:
                given += [f"--{name}", str(value)]
        if self.chat:
            given += ["--apply_chat_template", "--fewshot_as_multiturn", str(self.multiturn).lower()]
        return given

    def configuration(self):
        """As keys of the configuration of `nexa evaluate`."""
        given = {"limit": self.limit, "num_fewshot": self.num_fewshot, "system_instruction": self.system}
        if self.chat:
            given |= {"apply_chat_template": True, "fewshot_as_multiturn": self.multiturn}
        return {name: value for name, value in given.items() if value is not None}


@dataclasses.dataclass(frozen=True)
class Took:
    """What a process took."""

    seconds: float
    peak_bytes: int


def python(venv):
    """The Python that has the harness; it is set up where it is not there."""
    found = venv / "bin/python"
    if not (venv / "bin/lm_eval").exists():
        print(f"making {venv}, which takes some minutes", flush=True)
        subprocess.run(["bash", HERE / "setup.sh"], check=True, env={**os.environ, "NEXA_BENCH_EVAL_VENV": str(venv)})
    return found


def measured(command, log, threads, cwd=None, environment=None):
    """Runs a command on the first `threads` cores, with all it says in the file `log`."""
    cores = sorted(os.sched_getaffinity(0))[:threads]
    with open(log, "w", encoding="utf-8") as said:
        begun = time.perf_counter()
        process = subprocess.Popen(
            [str(word) for word in command], cwd=cwd, env=environment, stdout=said, stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = pathlib.Path(log).read_text(encoding="utf-8", errors="replace")[-3000:]
        raise SystemExit(f"{' '.join(map(str, command))} failed ({process.returncode}):\n{tail}")
    return Took(seconds, usage.ru_maxrss * 1024)


def theirs(venv, model, tasks, files, settings, output, batch_size, threads):
    """Runs the harness in one process, offline, in f32; `tasks` are names of the files' tasks."""
    command = [python(venv), "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu"]
    command += ["--model_args", f"pretrained={model},dtype=float32", "--batch_size", str(batch_size)]
    command += ["--tasks", ",".join(tasks), "--include_path", files, "--output_path", output, "--log_samples"]
    command += settings.flags()
    output.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(output / "cache"),
        "OMP_NUM_THREADS": str(threads),
    }
    return measured(command, output / "log", threads, environment=environment)


def ours(nexa, lab, checkpoint, tasks, files, settings, output, threads):
    """Runs `nexa evaluate` in the lab without its memory of answers, and links what came of it into the folder `output`."""
    output.parent.mkdir(parents=True, exist_ok=True)
    configuration = {"tasks": tasks, "include_path": [str(files)], "cache": False, **settings.configuration()}
    asked = output.with_suffix(".yaml")
    asked.write_text(json.dumps(configuration), encoding="utf-8")
    name = output.name.replace("-", "_")
    command = [nexa, "evaluate", "--checkpoint", checkpoint, "--config", asked, "--output", name, "--force"]
    took = measured(command, output.with_suffix(".log"), threads, cwd=lab)
    made = sorted(lab.glob(f"data/processed/**/{name}_v*.results.json"), key=lambda path: path.stat().st_mtime)
    if not made:
        raise SystemExit(f"nexa evaluate left no results.json of `{name}` in {lab}")
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    stem = made[-1].name.removesuffix("results.json")
    for path in made[-1].parent.glob(f"{stem}*"):
        name = path.name.removeprefix(stem)
        if name == "results.json" or name.startswith("samples_"):
            (output / name).symlink_to(path)
    return took


def results(folder):
    """Task to its metrics, from the newest results; the names are those of the harness, as `acc_stderr,none`."""
    found = sorted(path for path in folder.rglob("results*.json") if path.is_file())
    if not found:
        raise SystemExit(f"{folder} holds no results.json")
    told = json.loads(found[-1].read_text(encoding="utf-8"))
    return {**told["results"], **told.get("groups", {})}


def samples(folder):
    """Task to its rows, in the order of the file."""
    rows = {}
    for path in sorted(folder.rglob("samples_*.jsonl")):
        task = re.fullmatch(r"samples_(.+?)(_\d{4}-\d\d-\d\dT[-\d.]+)?", path.stem).group(1)
        with open(path, encoding="utf-8") as lines:
            rows[task] = [json.loads(line) for line in lines]
    return rows
