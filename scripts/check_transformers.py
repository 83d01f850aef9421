#!/usr/bin/env python3
"""Loads a checkpoint with Hugging Face transformers and compares it with what nexa computes.

    cargo run --release -p nexa-model --example logits -- CHECKPOINT "some text" "another" > logits.json
    python scripts/check_transformers.py CHECKPOINT logits.json

Compares the rendered and encoded chat, the encoding of plain text, and the logits after every token.
Needs: pip install torch transformers safetensors
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TOLERANCE = 1e-3


def main() -> int:
    checkpoint, dump = sys.argv[1], json.load(open(sys.argv[2], encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model, loading = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, output_loading_info=True
    )
    failures = [f"{kind}: {names}" for kind, names in loading.items() if names]
    for text in dump["texts"]:
        ids = tokenizer(text["text"], add_special_tokens=False)["input_ids"]
        if ids != text["token_ids"]:
            failures.append(f"text {text['text']!r}: transformers {ids}, nexa {text['token_ids']}")
        if tokenizer.decode(ids) != text["text"]:
            failures.append(f"text {text['text']!r}: decodes to {tokenizer.decode(ids)!r}")
    largest = 0.0
    for prompt in dump["prompts"]:
        encoded = tokenizer.apply_chat_template(
            prompt["messages"], add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        ids = encoded["input_ids"]
        if ids[0].tolist() != prompt["token_ids"]:
            failures.append(f"chat: transformers {ids[0].tolist()}, nexa {prompt['token_ids']}")
            continue
        with torch.no_grad():
            logits = model(ids).logits[0]
        largest = max(largest, (logits - torch.tensor(prompt["logits"])).abs().max().item())
    if not largest <= TOLERANCE:
        failures.append(f"logits differ by up to {largest}")
    print(f"{len(dump['prompts'])} prompts, largest difference of a logit: {largest:.2e}")
    for failure in failures:
        print("FAILED", failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
