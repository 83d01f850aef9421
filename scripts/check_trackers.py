#!/usr/bin/env python3
"""Has real programs read what trackers wrote: TensorBoard's reader, an MLflow server, `wandb sync`.

    pip install tensorboard mlflow wandb
    python scripts/check_trackers.py

A process follows a run whose logs this script writes. It is killed with SIGKILL and started again, the logs are cut
back as a resumed run cuts them, and the MLflow server is away at first, is killed and comes back. In the end every
reader must hold exactly what the logs hold. All of it stays on loopback.
"""

import collections
import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
DRIVER = "trackers::tests::driver::follow_or_deliver"
LOGS = ("metrics.jsonl", "timing.jsonl")
PATIENCE_S = 120


def build() -> str:
    """Builds the tests of `nexa-train` and returns the program that follows a run."""
    command = ["cargo", "test", "--release", "-p", "nexa-train", "--lib", "--no-run", "--message-format=json"]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    messages = [json.loads(line) for line in output.splitlines()]
    return [message["executable"] for message in messages if message.get("executable")][-1]


def train(run: pathlib.Path, steps: range, seconds_per_step: float) -> None:
    """Adds to the logs what a loop writes."""
    with open(run / "metrics.jsonl", "a") as metrics, open(run / "timing.jsonl", "a") as timing:
        for step in steps:
            loss = 5 / step + 0.1
            print(json.dumps({"step": step, "epoch": step / 100, "loss": loss, "tokens": step * 811}), file=metrics)
            seconds = step * seconds_per_step
            print(json.dumps({"step": step, "seconds": seconds, "tokens_per_s": 811 / seconds_per_step}), file=timing)
            if step % 50 == 0:
                print(json.dumps({"step": step, "val_loss": loss + 0.25}), file=metrics)


def cut(run: pathlib.Path, last: int) -> None:
    """Cuts the logs back to a saved state."""
    for log in LOGS:
        lines = (run / log).read_text().splitlines(keepends=True)
        (run / log).write_text("".join(line for line in lines if json.loads(line)["step"] <= last))


def logged(run: pathlib.Path) -> dict[str, dict[int, float]]:
    """The values that the logs hold, by metric and step."""
    found = collections.defaultdict(dict)
    for log in LOGS:
        for line in (run / log).read_text().splitlines():
            row = json.loads(line)
            step = row.pop("step")
            for key, value in row.items():
                found[key][step] = value
    return dict(found)


def wait_for(what: str, condition) -> None:
    """Waits until a condition of another process holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not happen within {PATIENCE_S} s")
        time.sleep(0.1)


class Follower:
    """The process that follows a run, until it is killed or the run ends."""

    def __init__(self, program: str, run: pathlib.Path, tracking: dict, follow: bool = True):
        task = {"run_folder": str(run), "tracking": tracking, "timeout_s": 60.0, "follow": follow}
        self.run = run
        (run / "report.json").unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [program, "--ignored", "--exact", DRIVER],
            env={**os.environ, "NEXA_CHECK_TRACKERS": json.dumps(task)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )

    def cursor(self, tracker: str) -> dict:
        path = self.run / "trackers" / f"{tracker}.cursor.json"
        return json.loads(path.read_text()) if path.exists() else {"read": {}, "sent": {}}

    def has_sent_all(self, tracker: str) -> bool:
        """Whether a tracker's cursor stands at the end of the logs."""
        read = self.cursor(tracker)["read"]
        return all(log in read and read[log]["bytes"] == (self.run / log).stat().st_size for log in LOGS)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self) -> dict:
        self.process.stdin.close()
        assert self.process.wait(PATIENCE_S) == 0, "the follower failed"
        return json.loads((self.run / "report.json").read_text())


class MlflowServer:
    """A real server with a database of its own."""

    def __init__(self, folder: pathlib.Path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.address, self.process = folder, f"http://127.0.0.1:{self.port}", None

    def start(self) -> None:
        arguments = ["server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        stores = ["--backend-store-uri", f"sqlite:///{self.folder}/m.db", "--artifacts-destination", "./art"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *arguments, *stores],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

        def is_up() -> bool:
            try:
                return urllib.request.urlopen(f"{self.address}/health", timeout=2).status == 200
            except OSError:
                return False

        wait_for("the start of the MLflow server", is_up)

    def kill(self) -> None:
        """Kills the server and its workers, which it started in a group of its own."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class WandbServer(http.server.BaseHTTPRequestHandler):
    """As much of W&B's service as `wandb sync` needs; it keeps the rows that it is sent."""

    rows: dict[int, str] = {}
    runs: list[dict] = []
    ended: list[dict] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        if self.path.endswith("/file_stream"):
            history = (body.get("files") or {}).get("wandb-history.jsonl", {"offset": 0, "content": []})
            self.rows.update(enumerate(history["content"], history["offset"]))
            self.ended.extend([body] if body.get("complete") else [])
            return self.reply({"exitcode": None, "limits": {}})
        query, variables = body["query"], body.get("variables") or {}
        if "UpsertBucket" in query:
            self.runs.append(variables)
            project = {"name": variables["project"], "entity": {"name": "ada"}}
            bucket = {"id": "1", "name": variables["name"], "displayName": variables["displayName"]}
            data = {"upsertBucket": {"bucket": {**bucket, "project": project, "historyLineCount": 0}, "inserted": True}}
        elif "Viewer" in query:
            data = {"viewer": {"id": "1", "entity": "ada", "username": "ada", "flags": "{}", "teams": {"edges": []}}}
        elif "ServerFeatures" in query:
            data = {"serverInfo": {"features": []}}
        elif "RunResumeStatus" in query:
            data = {"model": None}
        elif "CreateRunFiles" in query:
            address = f"http://127.0.0.1:{self.server.server_port}/upload"
            files = [{"name": name, "uploadUrl": address} for name in variables["files"]]
            data = {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}
        else:
            data = {}
        self.reply({"data": data})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.reply({})

    do_GET = do_PUT

    def reply(self, value: dict) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_) -> None:
        pass


def check_tensorboard(run: pathlib.Path) -> None:
    import numpy
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    reader.Reload()
    expected = logged(run)
    assert set(reader.Tags()["scalars"]) == set(expected), reader.Tags()
    for key, values in expected.items():
        events = reader.Scalars(key)
        found = [(event.step, event.value) for event in events]
        assert found == [(step, float(numpy.float32(value))) for step, value in sorted(values.items())], key
    files = len(list((run / "tensorboard").iterdir()))
    print(f"tensorboard: {sum(map(len, expected.values()))} scalars of {files} files are read back equal")


def check_mlflow(run: pathlib.Path, address: str, repeated: range) -> None:
    import mlflow
    from mlflow.tracking import MlflowClient

    client = MlflowClient(address)
    experiment = client.get_experiment_by_name("check")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 1, runs
    info, data = runs[0].info, runs[0].data
    assert (info.status, info.run_name) == ("FINISHED", "student"), info
    assert data.params == {"learning_rate": "0.002", "model.hidden_size": "128"}, data.params
    expected = logged(run)
    assert set(data.metrics) == set(expected), data.metrics
    points = 0
    for key, values in expected.items():
        history = client.get_metric_history(info.run_id, key)
        found = {point.step: point.value for point in history}
        # What a resumed run wrote again was sent before: the first time of a step stands.
        timed = repeated if key in ("seconds", "tokens_per_s") else ()
        wanted = {step: value for step, value in values.items() if step not in timed}
        assert {step: value for step, value in found.items() if step not in timed} == wanted, key
        assert len(history) == len(values), f"{key}: {len(history)} points for {len(values)} steps"
        points += len(history)
    print(f"mlflow {mlflow.__version__}: {points} points, each once, in one run")


def check_wandb(run: pathlib.Path) -> None:
    import wandb

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), WandbServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (folder,) = (run / "wandb").glob("offline-run-*")
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("WANDB_")},
            "HOME": home,
            "WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}",
            "WANDB_API_KEY": "0" * 40,
            "WANDB_ERROR_REPORTING": "false",
        }
        command = [sys.executable, "-m", "wandb", "sync", "--yes", str(folder)]
        result = subprocess.run(
            command, cwd=home, env=environment, timeout=PATIENCE_S, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    server.shutdown()
    assert result.returncode == 0, result.stdout.decode()
    rows = [json.loads(line) for _, line in sorted(WandbServer.rows.items())]
    found = collections.defaultdict(dict)
    for row in rows:
        step = row.pop("_step")
        for key, value in row.items():
            if not key.startswith("_"):
                found[key][step] = value
    assert dict(found) == logged(run), result.stdout.decode()
    config = json.loads(WandbServer.runs[0]["config"])
    assert config["learning_rate"]["value"] == 0.002 and config["model.hidden_size"]["value"] == 128, config
    assert WandbServer.ended and WandbServer.ended[-1]["exitcode"] == 0, WandbServer.ended
    print(f"wandb {wandb.__version__}: `wandb sync` uploads {len(rows)} rows, equal to the logs")


def main() -> int:
    program = build()
    with tempfile.TemporaryDirectory() as folder:
        run, server_folder = pathlib.Path(folder, "run"), pathlib.Path(folder, "mlflow")
        run.mkdir()
        server_folder.mkdir()
        server = MlflowServer(server_folder)
        tracking = {
            "report_to": ["tensorboard", "mlflow", "wandb"],
            "mlflow": {"tracking_uri": server.address, "experiment_name": "check"},
        }

        # The server is away at first, and comes up while the run is at work.
        follower = Follower(program, run, tracking)
        train(run, range(1, 1001), 0.5)
        wait_for("the first scalars", lambda: follower.has_sent_all("tensorboard"))
        server.start()
        wait_for("the first points", lambda: follower.has_sent_all("mlflow"))

        # The process is killed in the middle of its work, and the resumed run writes 200 steps again.
        train(run, range(1001, 1501), 0.5)
        wait_for("a part of the next points", lambda: follower.cursor("mlflow")["sent"]["loss"] > 1000)
        follower.kill()
        cut(run, 800)
        follower = Follower(program, run, tracking)
        wait_for("the second attempt", lambda: len(list((run / "tensorboard").iterdir())) == 2)
        train(run, range(801, 1601), 0.75)
        wait_for("its points", lambda: all(map(follower.has_sent_all, tracking["report_to"])))

        # The server is killed, the run ends without it, and the rest is delivered later.
        server.kill()
        train(run, range(1601, 1701), 0.75)
        report = follower.end()
        undelivered = {delivery["tracker"]: delivery["waiting"] for delivery in report["deliveries"]}
        assert undelivered == {"tensorboard": 0, "mlflow": 202, "wandb": 0}, report
        server.start()
        report = Follower(program, run, tracking, follow=False).end()
        assert not any(delivery["problem"] for delivery in report["deliveries"]), report
        assert [delivery["delivered"] for delivery in report["deliveries"]] == [0, 202, 0], report

        check_tensorboard(run)
        try:
            check_mlflow(run, server.address, range(801, 1501))
        finally:
            server.kill()
        check_wandb(run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
