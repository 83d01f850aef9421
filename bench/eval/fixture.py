"""Makes a small Llama of random weights whose tokenizer adds a BOS, in the form of Hugging Face.

    VENV/bin/python bench/eval/fixture.py bytes|words FOLDER FILE.jsonl …

`bytes` splits into bytes as GPT-2's tokenizer does, `words` marks words by a blank before them as Llama 2's does, with bytes
for what it does not know. Both are trained on the texts of the files, and the context is 768 tokens, so that prompts of
several examples are cut and texts go through several windows.
"""

import json
import sys

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCAB = 600
CONTEXT = 768
BOS, EOS, UNKNOWN = "<s>", "</s>", "<unk>"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def texts(paths):
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            for _, line in zip(range(500), lines):
                yield from (value for value in json.loads(line).values() if isinstance(value, str))


def tokenizer(kind, paths):
    special = [UNKNOWN, BOS, EOS]
    if kind == "bytes":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=VOCAB, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        )
    else:
        made = Tokenizer(models.BPE(unk_token=UNKNOWN, byte_fallback=True, fuse_unk=True))
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        strip = decoders.Strip(content=" ", left=1, right=0)
        made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), strip])
        special += [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=special, limit_alphabet=120, show_progress=False)
    made.train_from_iterator(texts(paths), trainer)
    if kind == "words":  # the bytes were reserved places only; as tokens of the text they must not be found in it
        told = json.loads(made.to_str())
        told["added_tokens"] = [token for token in told["added_tokens"] if token["content"] in (UNKNOWN, BOS, EOS)]
        made = Tokenizer.from_str(json.dumps(told))
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (UNKNOWN, BOS, EOS)])
    made.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, made.token_to_id(BOS))]
    )
    return made


@torch.no_grad()
def main():
    kind, folder, *paths = sys.argv[1:]
    made = tokenizer(kind, paths)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=BOS, eos_token=EOS, unk_token=UNKNOWN, pad_token=EOS, chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
    fast.save_pretrained(folder)
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=made.get_vocab_size(), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=CONTEXT, initializer_range=0.1, tie_word_embeddings=False,
        bos_token_id=made.token_to_id(BOS), eos_token_id=made.token_to_id(EOS), pad_token_id=made.token_to_id(EOS),
    )
    model = LlamaForCausalLM(config)
    # Bytes are read, but never said: of those that are no text together the libraries show different things.
    model.lm_head.weight[[made.token_to_id(f"<0x{byte:02X}>") for byte in range(256) if kind == "words"]] = 0.0
    model.save_pretrained(folder)
    print(f"{folder}: {made.get_vocab_size()} tokens; {fast('Zoë said: hello 東京')['input_ids']}")


if __name__ == "__main__":
    main()
