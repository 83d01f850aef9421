#!/usr/bin/env python3
"""Holds what nexa makes of a GGUF file, and the GGUF files that it writes, against llama.cpp.

    python scripts/check_gguf.py vectors > crates/nexa-model/src/gguf/blocks/vectors.json
    python scripts/check_gguf.py compare MODEL.gguf NEXA LOGITS
    python scripts/check_gguf.py families FOLDER NEXA LOGITS
    python scripts/check_gguf.py quantised FOLDER NEXA

`vectors` makes the test vectors of the block formats with the `gguf` package, an implementation in numpy.

`compare` works in a lab (a folder with nexa.yaml) and needs two programs: NEXA is the binary, LOGITS the example of
that name of nexa-model. It imports MODEL.gguf, exports it again as F16 and Q8_0, and checks that
  1. the logits of chat prompts and the greedy answers of `nexa inference` are those of llama.cpp on the file itself,
  2. llama.cpp loads both exports and says the same of them,
  3. chats and awkward texts become the same tokens, both from MODEL.gguf and from the exports.

llama.cpp multiplies quantised weights with activations that it quantises to 8 bits, we with exact ones; so logits of
a quantised file differ by that rounding, and where two tokens are nearly as good the greedy answers part. (Of
SmolLM2-135M the root mean square of the difference is 0.28 for Q4_1, 0.39 for our Q8_0 and 0.36 for the Q8_0 that
llama-quantize makes of our F16.) So of a quantised file every token of our answer must be near the best of llama.cpp.
On the F16 export llama.cpp rounds activations to halves only: the difference is 0.02, and the answers must be equal.
That is the check that a wrong permutation or scale cannot pass.

`families` makes a model of random weights of every family, with the tokenizer of FOLDER (a model in the form of Hugging
Face), exports it as F16, and checks that llama.cpp gives the same logits, and so does the import of the export.

`quantised` makes such a model of the Llama family as well, lets llama.cpp quantise its export to each type that nexa
reads, and checks that the import of each has the numbers that the `gguf` package reads from the file.

Needs: pip install gguf numpy tokenizers safetensors llama-cpp-python
"""

import json
import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import numpy as np

# Root mean square of the difference of logits, which range over some 30: of a file that llama.cpp multiplies with
# quantised activations, and of one that it multiplies with halves.
QUANTISED_TOLERANCE = 0.5
HALF_TOLERANCE = 0.05
ANSWER_TOKENS = 48
PROMPTS = ["What is the capital of France?", "Write one sentence about the sea.", "What is 7 + 5?"]
TEXTS = [
    "", " ", "  two  blanks ", "\n\n\t x\r\n", "It's 12345 km, isn't it?", "żółć 漢字 ひらがな 🦀 e\u0301 \u00a0x",
    "def f(x):\n    return x**2  # ok", "<|im_start|>user\nhi<|im_end|>", "ALLCAPS camelCase snake_case",
    "3.14159 ½ ² Ⅷ ١٢٣", "a\u200bb\ufeffc", "https://example.org/?q=1&r=%20", "'''\"\"\"``", "…—–", "\u0000\u0001\u007f",
]


def vectors() -> int:
    from gguf import GGMLQuantizationType as Type, quants
    from gguf.constants import GGML_QUANT_SIZES

    random = np.random.default_rng(7)
    halves = {  # where the blocks hold halves, which random bytes would make infinite
        "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2],
        "Q6_K": [208],
    }
    cases = []
    for name, places in halves.items():
        length, size = GGML_QUANT_SIZES[Type[name]]
        count = 2 if length == 32 else 1
        blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
        for place in places:
            half = random.uniform(-0.1, 0.1, (count, 1)).astype(np.float16)
            blocks[:, place : place + 2] = half.view(np.uint8)
        values = quants.dequantize(blocks.reshape(-1), Type[name])
        cases.append({"type": name, "bytes": blocks.tobytes().hex(), "values": hexadecimal(values)})
    weights = random.normal(0, 0.05, 64).astype(np.float32)
    weights[5] = 0.0
    for name in ["F16", "BF16"]:
        stored = quants.quantize(weights, Type[name])
        values = quants.dequantize(stored, Type[name])
        cases.append({"type": name, "bytes": stored.tobytes().hex(), "values": hexadecimal(values)})
    encoded = [
        {"type": name, "values": hexadecimal(weights), "bytes": quants.quantize(weights, Type[name]).tobytes().hex()}
        for name in ["F16", "Q8_0"]
    ]
    print(json.dumps({"decode": cases, "encode": encoded}, indent=1))
    return 0


def hexadecimal(values: np.ndarray) -> str:
    return values.astype("<f4").tobytes().hex()


def llama(path: Path):
    from llama_cpp import Llama

    return Llama(str(path), n_ctx=512, n_threads=2, logits_all=True, verbose=False, seed=0)


def llama_logits(model, token_ids: list[int]) -> np.ndarray:
    model.reset()
    model.eval(token_ids)
    return np.array(model.scores[: len(token_ids)])


def llama_answer(model, token_ids: list[int]) -> list[int]:
    last = llama_logits(model, token_ids)[-1]
    answer = []
    while len(answer) < ANSWER_TOKENS:
        token = int(last.argmax())
        if token == model.token_eos():
            break
        answer.append(token)
        model.eval([token])
        last = np.array(model.scores[model.n_tokens - 1])
    return answer


class Server:
    """The model under `nexa inference`, on a free port of this machine."""

    def __init__(self, nexa: str, checkpoint: str):
        command = [nexa, "inference", "--checkpoint", checkpoint, "--host", "127.0.0.1", "--port", "0"]
        self.checkpoint = checkpoint
        self.process = subprocess.Popen(command, text=True, stderr=subprocess.PIPE)
        for line in self.process.stderr:
            if found := re.search(r"http://\S+:\d+", line):
                self.address = found.group()
                return
        raise SystemExit("nexa inference ended before it served")

    def answer(self, prompt: str) -> str:
        body = {
            "model": self.checkpoint, "messages": [{"role": "user", "content": prompt}], "temperature": 0,
            "max_tokens": ANSWER_TOKENS,
        }
        request = urllib.request.Request(
            f"{self.address}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as response:
            return json.load(response)["choices"][0]["message"]["content"]

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.process.terminate()
        self.process.wait()


def compare(path: Path, nexa: str, logits: str) -> int:
    from tokenizers import Tokenizer

    failures = []

    def check(what: str, passed: bool) -> None:
        print("ok    " if passed else "FAILED", what, flush=True)
        failures.extend([] if passed else [what])

    checkpoint = run(nexa, "model", "import", str(path), "--name", "gguf_check")
    again = run(nexa, "model", "import", str(path), "--name", "gguf_check")
    check(f"importing again makes nothing new: {checkpoint}", checkpoint == again)
    with Server(nexa, checkpoint) as server:
        answers = [server.answer(prompt) for prompt in PROMPTS]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "checkpoint")
        run(nexa, "model", "export", checkpoint, "--format", "safetensors", "--output", str(folder))
        ours = json.loads(run(logits, str(folder), *PROMPTS))["prompts"]
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.encode_special_tokens = True
        files = {"the file itself": (path, QUANTISED_TOLERANCE)}
        for kind, tolerance in [("f16", HALF_TOLERANCE), ("q8_0", QUANTISED_TOLERANCE)]:
            target = Path(temporary, f"{kind}.gguf")
            run(nexa, "model", "export", checkpoint, "--format", "gguf", "--type", kind, "--output", str(target))
            files[f"the {kind} export"] = (target, tolerance)
        for name, (file, tolerance) in files.items():
            model = llama(file)
            for prompt, answer in zip(ours, answers):
                content, ids = prompt["messages"][0]["content"], prompt["token_ids"]
                rendered = chat(model, content)
                check(f"{name}: {content!r}: the rendered chat has the same tokens", ids == rendered)
                theirs = llama_logits(model, ids)
                difference = float(np.sqrt(np.mean((np.array(prompt["logits"]) - theirs) ** 2)))
                check(f"{name}: {content!r}: logits differ by {difference:.3f} <= {tolerance}", difference <= tolerance)
                mine = tokenizer.encode(answer, add_special_tokens=False).ids
                greedy = llama_answer(model, ids)
                text = model.detokenize(greedy).decode(errors="replace")
                scores = llama_logits(model, ids + mine)[len(ids) - 1 : -1]
                short = max((float(row.max() - row[token]) for row, token in zip(scores, mine)), default=0.0)
                how = "is the same" if text == answer else f"differs (by {short:.3f}): {text!r}, ours {answer!r}"
                near = tolerance == QUANTISED_TOLERANCE and short <= tolerance
                check(f"{name}: {content!r}: the greedy answer {how}", text == answer or near)
            for text in TEXTS:
                mine = tokenizer.encode(text, add_special_tokens=False).ids
                theirs = model.tokenize(text.encode(), add_bos=False, special=False)
                check(f"{name}: {len(mine)} tokens of {text!r}", mine == theirs)
            del model
    print(f"{len(failures)} failures")
    return 1 if failures else 0


FAMILIES = {
    "llama": {"architectures": ["LlamaForCausalLM"], "model_type": "llama"},
    "mistral": {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "sliding_window": None},
    "qwen2": {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"},
    "qwen3": {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"},
    # One layer in four has no positions.
    "smollm3": {"architectures": ["SmolLM3ForCausalLM"], "model_type": "smollm3", "no_rope_layers": [1, 1, 1, 0]},
}
HIDDEN, INTERMEDIATE, LAYERS, HEADS, SHARED, HEAD_DIM = 256, 512, 4, 4, 2, 64
TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "generation_config.json"]


def make_model(tokenizer: Path, family: str, target: Path) -> Path:
    """Writes a model of random weights; its widths are multiples of 256, the length of the longest blocks."""
    from safetensors.numpy import save_file

    given = json.loads((tokenizer / "config.json").read_text())
    config = {
        "hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": SHARED, "head_dim": HEAD_DIM, "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0, "max_position_embeddings": 512, "tie_word_embeddings": True, "hidden_act": "silu",
        **{key: given[key] for key in ["vocab_size", "bos_token_id", "eos_token_id"]}, **FAMILIES[family],
    }
    random = np.random.default_rng(3)
    tensors = {}

    def matrix(name: str, rows: int, columns: int, deviation: float) -> None:
        tensors[name] = random.normal(0, deviation, (rows, columns)).astype(np.float32)

    def vector(name: str, length: int, mean: float) -> None:
        tensors[name] = (mean + random.normal(0, 0.2, length)).astype(np.float32)

    matrix("model.embed_tokens.weight", config["vocab_size"], HIDDEN, 0.3)
    vector("model.norm.weight", HIDDEN, 1.0)
    for layer in range(LAYERS):
        block = f"model.layers.{layer}"
        for name, outputs in [("q_proj", HEADS), ("k_proj", SHARED), ("v_proj", SHARED)]:
            matrix(f"{block}.self_attn.{name}.weight", outputs * HEAD_DIM, HIDDEN, 0.06)
            if family == "qwen2":
                vector(f"{block}.self_attn.{name}.bias", outputs * HEAD_DIM, 0.0)
        matrix(f"{block}.self_attn.o_proj.weight", HIDDEN, HEADS * HEAD_DIM, 0.06)
        if family == "qwen3":
            vector(f"{block}.self_attn.q_norm.weight", HEAD_DIM, 1.0)
            vector(f"{block}.self_attn.k_norm.weight", HEAD_DIM, 1.0)
        matrix(f"{block}.mlp.gate_proj.weight", INTERMEDIATE, HIDDEN, 0.06)
        matrix(f"{block}.mlp.up_proj.weight", INTERMEDIATE, HIDDEN, 0.06)
        matrix(f"{block}.mlp.down_proj.weight", HIDDEN, INTERMEDIATE, 0.06)
        vector(f"{block}.input_layernorm.weight", HIDDEN, 1.0)
        vector(f"{block}.post_attention_layernorm.weight", HIDDEN, 1.0)
    target.mkdir()
    (target / "config.json").write_text(json.dumps(config))
    save_file(tensors, target / "model.safetensors")
    for name in TOKENIZER_FILES:
        if (tokenizer / name).exists():
            (target / name).write_bytes((tokenizer / name).read_bytes())
    return target


def run(*command: str) -> str:
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout.strip()


def export(nexa: str, folder: Path, name: str, target: Path) -> Path:
    """Imports a folder or a file into the lab, and writes it as F16."""
    checkpoint = run(nexa, "model", "import", str(folder), "--name", name)
    run(nexa, "model", "export", checkpoint, "--format", "gguf", "--type", "f16", "--output", str(target))
    return target


def families(tokenizer: Path, nexa: str, logits: str) -> int:
    failures = 0
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as temporary:
            folder = make_model(tokenizer, family, Path(temporary, family))
            file = export(nexa, folder, f"gguf_{family}", Path(temporary, "f16.gguf"))
            again = Path(temporary, "again")
            checkpoint = run(nexa, "model", "import", str(file), "--name", f"gguf_{family}_again")
            run(nexa, "model", "export", checkpoint, "--format", "safetensors", "--output", str(again))
            model = llama(file)
            for name, side in [("the model", folder), ("its export, imported", again)]:
                for prompt in json.loads(run(logits, str(side), *PROMPTS))["prompts"]:
                    theirs = llama_logits(model, prompt["token_ids"])
                    mine = np.array(prompt["logits"])
                    difference = float(np.sqrt(np.mean((mine - theirs) ** 2)))
                    good = difference <= HALF_TOLERANCE and np.std(theirs) > 1
                    failures += not good
                    print(
                        "ok    " if good else "FAILED", f"{family}: {name}: logits of deviation {np.std(theirs):.1f}",
                        f"differ by {difference:.4f}", flush=True,
                    )
    print(f"{failures} failures")
    return 1 if failures else 0


def quantised(tokenizer: Path, nexa: str) -> int:
    import ctypes

    import llama_cpp
    from gguf import GGUFReader, quants
    from safetensors.numpy import load_file

    failures = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = make_model(tokenizer, "llama", Path(temporary, "llama"))
        whole = export(nexa, folder, "gguf_llama", Path(temporary, "f16.gguf"))
        for kind in ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K_S", "Q4_K_M", "Q5_K_M", "Q6_K", "F16"]:
            file = Path(temporary, f"{kind}.gguf")
            settings = llama_cpp.llama_model_quantize_default_params()
            settings.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
            settings.nthread = 2
            status = llama_cpp.llama_model_quantize(
                str(whole).encode(), str(file).encode(), ctypes.byref(settings)
            )
            if status != 0:
                raise SystemExit(f"llama.cpp could not make {kind}")
            back = Path(temporary, kind)
            checkpoint = run(nexa, "model", "import", str(file), "--name", f"gguf_{kind.lower()}")
            run(nexa, "model", "export", checkpoint, "--format", "safetensors", "--output", str(back))
            ours = load_file(back / "model.safetensors")
            types, worst = set(), 0.0
            for tensor in GGUFReader(file).tensors:
                values = quants.dequantize(tensor.data, tensor.tensor_type)
                name = our_name(tensor.name)
                if name.endswith(("q_proj.weight", "k_proj.weight")):
                    # Files of this family hold the two halves of a head interleaved.
                    heads = values.shape[0] // HEAD_DIM
                    values = values.reshape(heads, HEAD_DIM // 2, 2, -1).swapaxes(1, 2).reshape(values.shape)
                if values.ndim == 2:
                    types.add(tensor.tensor_type.name)
                worst = max(worst, float(np.abs(ours[name].astype(np.float32) - values).max()))
            good = worst == 0.0
            failures += not good
            print("ok    " if good else "FAILED", f"{kind}: {', '.join(sorted(types))}: off by {worst} at most", flush=True)
    print(f"{failures} failures")
    return 1 if failures else 0


def our_name(name: str) -> str:
    """A tensor's name in the form of Hugging Face."""
    whole = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    parts = {
        "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    }
    if name in whole:
        return whole[name]
    _, layer, part, end = name.split(".")
    return f"model.layers.{layer}.{parts[part]}.{end}"


def chat(model, content: str) -> list[int]:
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    text = lambda token: model.detokenize([token], special=True).decode()
    formatter = Jinja2ChatFormatter(
        model.metadata["tokenizer.chat_template"], text(model.token_eos()), text(model.token_bos())
    )
    prompt = formatter(messages=[{"role": "user", "content": content}]).prompt
    return model.tokenize(prompt.encode(), add_bos=False, special=True)


def main() -> int:
    match sys.argv[1:]:
        case ["vectors"]:
            return vectors()
        case ["compare", path, nexa, logits]:
            return compare(Path(path), nexa, logits)
        case ["families", folder, nexa, logits]:
            return families(Path(folder), nexa, logits)
        case ["quantised", folder, nexa]:
            return quantised(Path(folder), nexa)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
