#!/usr/bin/env python3
"""Makes the models that `crates/nexa-model/test-data/families/` holds, with what `transformers` computes for them.

    python scripts/make_model_fixtures.py

Each folder is a small model with random weights in half precision, as `save_pretrained` writes it, and a
`reference.json`: token ids, the logits after some of their positions and the greedy continuation, all computed in f32
from the rounded weights. Needs `torch` and `transformers` (made with 5.23).
"""

import json
import pathlib
import shutil

import torch
import transformers
from transformers import AutoModelForCausalLM
from transformers import LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config, SmolLM3Config

TARGET = pathlib.Path(__file__).resolve().parent.parent / "crates/nexa-model/test-data/families"
VOCAB = 64
TOKENS = 40
GREEDY_TOKENS = 12

SMALL = dict(
    vocab_size=VOCAB, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5, bos_token_id=0, eos_token_id=[1, 2],
    pad_token_id=3, initializer_range=0.3, tie_word_embeddings=True,
)
UNTIED = SMALL | dict(tie_word_embeddings=False)


def rope(kind, theta=10_000.0, **numbers):
    return dict(rope_type=kind, rope_theta=theta, **numbers)


MODELS = {
    "llama": LlamaConfig(**SMALL),
    # A head size that is neither hidden over heads nor a multiple of 8, and every bias there is.
    "llama-biases": LlamaConfig(**UNTIED, head_dim=12, attention_bias=True, mlp_bias=True),
    "llama-linear": LlamaConfig(**SMALL, rope_parameters=rope("linear", factor=4.0)),
    # The prompt is longer than what dynamic scaling takes for the length of the first training.
    "llama-dynamic": LlamaConfig(
        **SMALL | dict(max_position_embeddings=24), rope_parameters=rope("dynamic", factor=3.0)
    ),
    "llama-llama3": LlamaConfig(
        **SMALL,
        rope_parameters=rope(
            "llama3", 500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=32,
        ),
    ),
    "mistral-window": MistralConfig(**UNTIED, sliding_window=9),
    "mistral-full": MistralConfig(**SMALL, head_dim=16, sliding_window=None),
    "qwen2": Qwen2Config(**SMALL),
    "qwen2-window-yarn": Qwen2Config(
        **UNTIED | dict(num_hidden_layers=3), use_sliding_window=True, sliding_window=7, max_window_layers=1,
        rope_parameters=rope("yarn", 1000.0, factor=4.0, original_max_position_embeddings=16),
    ),
    "qwen3": Qwen3Config(**SMALL, head_dim=16),
    "qwen3-window-yarn": Qwen3Config(
        **UNTIED, head_dim=12, attention_bias=True, use_sliding_window=True, sliding_window=17,
        layer_types=["sliding_attention", "full_attention"],
        rope_parameters=rope(
            "yarn", 1000.0, factor=4.0, original_max_position_embeddings=32, beta_fast=8.0, beta_slow=2.0,
            mscale=0.7, mscale_all_dim=0.9, truncate=False,
        ),
    ),
    "smollm3": SmolLM3Config(**SMALL | dict(num_hidden_layers=3), no_rope_layers=[1, 0, 1]),
    "smollm3-window": SmolLM3Config(
        **UNTIED | dict(num_hidden_layers=3), no_rope_layer_interval=2, use_sliding_window=True, sliding_window=11,
    ),
}


def scatter(model, generator):
    """Moves biases and norms away from the values that they start with."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
def make(name, config, seed):
    folder = TARGET / name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    scatter(model, generator)
    # Both half formats are read somewhere.
    model.to(torch.bfloat16 if seed % 2 else torch.float16).save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)

    load = lambda: AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    token_ids = torch.randint(4, VOCAB, (1, TOKENS), generator=generator)
    # A fresh model for each part, as dynamic scaling leaves its frequencies behind.
    logits = load()(token_ids).logits[0]
    greedy, sequence, cache = [], token_ids, None
    model = load()
    for _ in range(GREEDY_TOKENS):
        output = model(sequence, past_key_values=cache, use_cache=True)
        cache, sequence = output.past_key_values, output.logits[:, -1].argmax(-1, keepdim=True)
        greedy.append(sequence.item())
    positions = [0, 9, 20, TOKENS - 1]
    reference = dict(
        transformers=transformers.__version__,
        token_ids=token_ids[0].tolist(),
        positions=positions,
        logits=[[round(value, 5) for value in logits[position].tolist()] for position in positions],
        greedy=greedy,
    )
    (folder / "reference.json").write_text(json.dumps(reference) + "\n")
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size < 60_000, f"{name} takes {size} bytes"
    print(f"{name}: {size} bytes, logits up to {logits.abs().max():.2f}, greedy {greedy}")


if __name__ == "__main__":
    for seed, (name, config) in enumerate(MODELS.items()):
        make(name, config, seed)
