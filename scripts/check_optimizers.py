"""Holds the optimizers of nexa against those of PyTorch on the same gradients.

    python scripts/check_optimizers.py

Needs a Python with torch 2.9 or newer. Not part of CI.
"""

import json
import math
import subprocess
import sys

import torch

TOLERANCE = 1e-5
SHAPE = (48, 32)
STEPS = 8
LEARNING_RATE = 0.01
WEIGHT_DECAY = 0.1
COMMAND = ["cargo", "run", "--release", "--quiet", "-p", "nexa-train", "--example", "optimizer_steps"]


def ours(optimizer, start, gradients):
    """Runs our optimizer and returns the values after every step."""
    config = {"optimizer": optimizer, "learning_rate": LEARNING_RATE, "weight_decay": WEIGHT_DECAY, "adam_beta2": 0.95}
    task = {
        "config": config,
        "shape": start.shape,
        "values": start.flatten().tolist(),
        "gradients": [gradient.flatten().tolist() for gradient in gradients],
    }
    ran = subprocess.run(COMMAND, input=json.dumps(task), capture_output=True, text=True, check=True)
    return [torch.tensor(values).reshape(start.shape) for values in json.loads(ran.stdout)]


def adamw(start, gradients):
    parameter = torch.nn.Parameter(start.clone())
    rule = torch.optim.AdamW([parameter], lr=LEARNING_RATE, betas=(0.9, 0.95), eps=1e-8, weight_decay=WEIGHT_DECAY)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        rule.step()
        yield parameter.detach().clone()


def muon(start, gradients):
    parameter = torch.nn.Parameter(start.clone())
    rule = torch.optim.Muon(
        [parameter], lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    # PyTorch iterates in bf16, whose rounding would hide everything else.
    half, torch.bfloat16 = torch.bfloat16, torch.float32
    try:
        for gradient in gradients:
            parameter.grad = gradient.clone()
            rule.step()
            yield parameter.detach().clone()
    finally:
        torch.bfloat16 = half


def adafactor(start, gradients):
    """PyTorch multiplies every update by the size of the parameter and limits the rate by the step; the update itself
    is taken out of what it does to a parameter and applied at a rate of its own, as `scale_parameter=False` and
    `relative_step=False` do."""
    parameter = torch.nn.Parameter(start.clone())
    rule = torch.optim.Adafactor([parameter], lr=LEARNING_RATE, eps=(1e-15, 1e-3), weight_decay=0.0)
    values = start.double()
    for number, gradient in enumerate(gradients, start=1):
        before = parameter.detach().double()
        size = max(1e-3, before.norm().item() / math.sqrt(before.numel())) * min(LEARNING_RATE, 1 / math.sqrt(number))
        parameter.grad = gradient.clone()
        rule.step()
        update = (before - parameter.detach().double()) / size
        values = values * (1 - LEARNING_RATE * WEIGHT_DECAY) - LEARNING_RATE * update
        yield values.float()


def main():
    torch.manual_seed(0)
    start = torch.randn(SHAPE)
    gradients = [torch.randn(SHAPE) * torch.rand(SHAPE) ** 3 for _ in range(STEPS)]
    worst = 0.0
    for name, theirs in [("adamw_torch", adamw), ("adafactor", adafactor), ("muon", muon)]:
        pairs = zip(ours(name, start, gradients), theirs(start, gradients), strict=True)
        difference = max((a - b).abs().max().item() for a, b in pairs)
        print(f"{name:12} largest difference after {STEPS} steps of {LEARNING_RATE}: {difference:.2e}")
        worst = max(worst, difference)
    return 0 if worst < TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
