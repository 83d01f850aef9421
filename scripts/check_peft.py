#!/usr/bin/env python3
"""Holds a model that was trained with adapters against PEFT: base plus `adapter/` there, the merged model here.

    python scripts/check_peft.py BASE TRAINED

Both are folders of Hugging Face's form; TRAINED holds the merged model and, in `adapter`, the files of PEFT. Needs
torch, transformers and peft. Run it in the lab's folder: PEFT must also find the base by what the adapters say of
it, which is its place in the lab. Prints the largest difference of the logits, and fails above 1e-3.
"""

import sys
from pathlib import Path

import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM

BOUND = 1e-3


def main() -> int:
    base, trained = map(Path, sys.argv[1:3])

    def load(folder):
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    plain, merged = load(base).eval(), load(trained).eval()
    ids = torch.randint(0, plain.config.vocab_size, (2, 33), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        without = plain(ids).logits
        named = AutoPeftModelForCausalLM.from_pretrained(trained / "adapter", dtype=torch.float32).eval()(ids).logits
        expected = PeftModel.from_pretrained(plain, trained / "adapter").eval()(ids).logits
        found = merged(ids).logits
    difference = max((expected - other).abs().max().item() for other in (found, named))
    effect = (expected - without).abs().max().item()
    print(f"largest difference {difference:.2e}; the adapters change logits by up to {effect:.2e}")
    return 0 if difference < BOUND < effect else 1


if __name__ == "__main__":
    sys.exit(main())
