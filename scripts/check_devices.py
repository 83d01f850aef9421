#!/usr/bin/env python3
"""Trains small random models of every family for three steps on the CPU and on another device, and compares losses.

    python scripts/check_devices.py            # webgpu; on a machine without a graphics card, Mesa's lavapipe will do:
                                               # apt-get install mesa-vulkan-drivers libvulkan1
    python scripts/check_devices.py cuda       # or rocm, metal, vulkan, webgpu
    python scripts/check_devices.py cuda --binary PATH

It is not part of the default checks: the binary is built with the feature of the device, which takes half an hour on two
cores, in the folder that CARGO_TARGET_DIR names, else in `target/devices`.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FAMILIES = ROOT / "crates" / "nexa-model" / "test-data" / "families"
BACKENDS = ("webgpu", "vulkan", "cuda", "rocm", "metal")
# Exit code of a device that is not there.
UNAVAILABLE = 6
# Sums in another order, a few products deep, and their effect on two updates.
TOLERANCE = 1e-3
# Eight bits of mantissa.
TOLERANCE_BF16 = 2e-2
# What is tried of the first family, beside its plain training.
VARIANTS = (
    ["adapter=lora", "lora_r=4"],
    ["gradient_checkpointing=true"],
    ["optimizer=muon"],
)


def build(backend: str) -> pathlib.Path:
    """Builds the binary for a backend."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target" / "devices")).resolve()
    command = ["cargo", "build", "--release", "-p", "nexa", "--features", backend]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "CARGO_TARGET_DIR": str(target)})
    return target / "release" / "nexa"


def losses(binary: pathlib.Path, family: pathlib.Path, settings: list[str]) -> list[float]:
    """The loss of each of three steps on tokens without a pattern."""
    command = [binary, "bench", "train", "--json", "--model", family, "--tokens", "90", "--samples", "3", "--steps", "2"]
    command += ["learning_rate=0.003", *settings]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode == UNAVAILABLE:
        sys.exit(done.stderr.strip())
    if done.returncode != 0:
        raise RuntimeError(f"{family.name} {settings}: {done.stderr.strip()}")
    return json.loads(done.stdout)["losses"]


def compare(binary: pathlib.Path, family: pathlib.Path, device: str, settings: list[str]) -> bool:
    """Trains on both, and says how far apart they are."""
    in_bf16 = "bf16=true" in settings
    tolerance = TOLERANCE_BF16 if in_bf16 else TOLERANCE
    on_cpu = [setting for setting in settings if setting != "bf16=true"]
    ours = losses(binary, family, ["device=cpu", *on_cpu])
    theirs = losses(binary, family, [f"device={device}", *([] if in_bf16 else ["bf16=false"]), *settings])
    distance = max(abs(one - other) for one, other in zip(ours, theirs, strict=True))
    is_close = distance <= tolerance
    name = " ".join([family.name, *settings])
    texts = " ".join(f"{loss:.6f}" for loss in theirs)
    print(f"{'ok ' if is_close else 'BAD'} {name}: {texts}, at most {distance:.1e} from the CPU", flush=True)
    return is_close


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("backend", nargs="?", default="webgpu", choices=BACKENDS)
    parser.add_argument("--binary", type=pathlib.Path, help="a binary that was built before")
    parser.add_argument("--bf16", action="store_true", help="tries 16 bits, too")
    arguments = parser.parse_args()
    binary = arguments.binary or build(arguments.backend)
    device = f"{arguments.backend}:0"
    families = sorted(folder for folder in FAMILIES.iterdir() if folder.is_dir())
    first = FAMILIES / "llama"
    tries = [(family, []) for family in families] + [(first, list(variant)) for variant in VARIANTS]
    if arguments.bf16:
        tries.append((first, ["bf16=true"]))
    results = [compare(binary, family, device, settings) for family, settings in tries]
    print(f"{sum(results)} of {len(results)} agree")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
