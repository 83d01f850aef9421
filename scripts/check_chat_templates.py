"""Compares what `nexa` and `transformers` make of conversations: token ids, prompts and assistant masks.

    python scripts/check_chat_templates.py [FOLDER ...]

Every template of crates/nexa-model/test-data/chat_templates is put on vocabularies that are trained here, byte-level
and SentencePiece-like, and run over a set of conversations. Each FOLDER is a tokenizer with a chat template of its
own and is run over the same conversations. Needs transformers 5 and a Rust toolchain; it is not part of CI.

Two differences are meant, and are counted apart. `nexa` cuts the text where a prompt ends, so ids may differ there,
and then its ids must begin with those of the prompt alone. And where the last character of a marked span is made of
several tokens, `transformers` marks the first of them only. What a message spells never becomes a special token in
`nexa`; none of these conversations spells one.
"""

import json
import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = ROOT / "crates/nexa-model/test-data/chat_templates"
SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>"]
STOPS = {"headers": "<|eot_id|>", "inst": "</s>", "plain_words": "</s>", "no_stop": "</s>"}
WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def user(text):
    return {"role": "user", "content": text}


def says(text, **rest):
    return {"role": "assistant", "content": text, **rest}


CALL = {"type": "function", "function": {"name": "add", "arguments": {"b": 1, "a": [2.5, None, True], "c": "ü<\"'\n"}}}
CONVERSATIONS = [
    {"messages": [user("What is two plus two?"), says("The answer is four.")]},
    {"messages": [{"role": "system", "content": " Be brief. "}, user("hi"), says("hello there"), user("and?"), says("four\n")]},
    {"messages": [user("żółć 漢字 🦀 e\u0301"), says("🦀 is #### 4")]},
    {"messages": [user("x" * 50 + "\n\n\n"), says("Line one.\n\nLine two:\n    indented\n")]},
    {"messages": [user("a"), says("<think>\nfirst\n</think>\n\nb"), user("c"), says("<think>second</think>d")]},
    {"messages": [user("a"), says("b", reasoning_content="because")]},
    {"messages": [user("a"), says("", tool_calls=[CALL]), {"role": "tool", "content": "3.5"}, says("It is 3.5.")]},
    {"messages": [user("a"), says("  blanks before and after  ")]},
    {"messages": [user("a"), says("")]},
    {"messages": [user("one"), says("1"), user("two"), says("2"), user("three"), says("3")]},
]


def corpus():
    texts = [path.read_text() for path in sorted(ROOT.glob("**/*.md")) if "target" not in path.parts]
    return texts + [json.dumps(conversation) for conversation in CONVERSATIONS]


def vocabulary(family):
    special = [AddedToken(text, special=True, normalized=False) for text in SPECIAL]
    if family == "byte-level":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ])
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
        if family == "prepended":
            tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=family, split=True)
        alphabet = []
        special = [AddedToken("<unk>", special=True)] + special
        special += [AddedToken(f"<0x{byte:02X}>", special=False) for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=2000, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    if family != "byte-level":
        # The bytes are vocabulary, not tokens that are looked for in texts.
        saved = json.loads(tokenizer.to_str())
        saved["added_tokens"] = [token for token in saved["added_tokens"] if not token["content"].startswith("<0x")]
        tokenizer = Tokenizer.from_str(json.dumps(saved))
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ["<think>", "</think>"]])
    return tokenizer


def folders(home):
    for family in ["byte-level", "first", "always", "prepended"]:
        tokenizer = vocabulary(family)
        for template in sorted(TEMPLATES.glob("*.jinja")):
            folder = home / f"{template.stem}, {family}"
            fast = PreTrainedTokenizerFast(
                tokenizer_object=tokenizer, bos_token="<s>", eos_token=STOPS.get(template.stem, "<|im_end|>"))
            fast.chat_template = template.read_text()
            fast.save_pretrained(folder)
            # `transformers` tells templates the date of the clock.
            config = folder / "tokenizer_config.json"
            dated = json.loads(config.read_text()) | {"chat_template_date": date.today().isoformat()}
            config.write_text(json.dumps(dated))
            yield folder, fast


def reference(tokenizer, conversation):
    """Ids, mask (where the template has tags) and prompt ids."""
    messages = conversation["messages"]
    tags = "generation -%}" in tokenizer.chat_template or "generation %}" in tokenizer.chat_template
    whole = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=tags)
    prompt = tokenizer.apply_chat_template(messages, return_dict=True, add_generation_prompt=True)
    mask = [bool(mark) for mark in whole["assistant_masks"]] if tags else None
    return whole["input_ids"], mask, prompt["input_ids"]


def compare(folder, tokenizer, counts):
    lines = "".join(json.dumps(conversation) + "\n" for conversation in CONVERSATIONS)
    command = ["cargo", "run", "--quiet", "--release", "-p", "nexa-model", "--example", "chat", "--", str(folder)]
    if binary := os.environ.get("NEXA_CHAT_EXAMPLE"):
        command = [binary, str(folder)]
    output = subprocess.run(command, cwd=ROOT, input=lines, text=True, capture_output=True, check=True).stdout
    for number, (conversation, line) in enumerate(zip(CONVERSATIONS, output.splitlines(), strict=True), 1):
        ours = json.loads(line)
        try:
            ids, mask, prompt = reference(tokenizer, conversation)
        except Exception as error:  # The template refuses it; so must we.
            counts["refused by both" if "error" in ours else "REFUSED BY transformers ALONE"] += 1
            if "error" not in ours:
                print(f"{folder.name}: conversation {number}: transformers refuses: {error}")
            continue
        if "error" in ours:
            counts["REFUSED BY nexa ALONE"] += 1
            print(f"{folder.name}: conversation {number}: {ours['error']}")
            continue
        if ours["token_ids"] == ids and ours["prompt"] == prompt and mask in (None, ours["trained"]):
            counts["the same"] += 1
            if mask is not None:
                counts["(with masks)"] += 1
            continue
        decoded = [tokenizer.decode(x) for x in (ours["token_ids"], ids)]
        if ours["token_ids"] != ids and cut_only(tokenizer, conversation["messages"], ids, ours["token_ids"]):
            counts["cut where a prompt ends"] += 1
            continue
        if ours["token_ids"] == ids and ours["prompt"] == prompt and same_character(tokenizer, conversation, mask, ours):
            counts["marked to the end of a character"] += 1
            continue
        counts["DIFFERENT"] += 1
        what = [key for key, same in [("ids", ours["token_ids"] == ids), ("prompt", ours["prompt"] == prompt),
                                      ("mask", mask in (None, ours["trained"]))] if not same]
        print(f"{folder.name}: conversation {number}: {', '.join(what)}\n  nexa {ours['token_ids']}\n  them {ids}\n  {decoded}")


def cut_only(tokenizer, messages, theirs, ours):
    """Whether theirs do not begin with the ids of a prompt, ours do with those of the first, and both say the same."""
    blank = str.maketrans("", "", " ▁\n")
    if tokenizer.decode(theirs).translate(blank) != tokenizer.decode(ours).translate(blank):
        return False
    starts = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
    prompts = [tokenizer.apply_chat_template(messages[:at], return_dict=True, add_generation_prompt=True)["input_ids"]
               for at in starts]
    first = prompts[0]
    return ours[: len(first)] == first and any(theirs[: len(prompt)] != prompt for prompt in prompts)


def same_character(tokenizer, conversation, theirs, ours):
    """Whether all that we mark more lies on the same characters as a token that they mark."""
    text = tokenizer.apply_chat_template(conversation["messages"], tokenize=False)
    places = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    more = [at for at, (a, b) in enumerate(zip(theirs, ours["trained"])) if a != b]
    marked = list(theirs)
    for at in more:
        marked[at] = at > 0 and marked[at - 1] and places[at][0] < places[at - 1][1]
    return marked == ours["trained"]


def main():
    logging.set_verbosity_error()
    counts = dict.fromkeys(["the same", "(with masks)", "cut where a prompt ends",
                            "marked to the end of a character", "refused by both",
                            "REFUSED BY nexa ALONE", "REFUSED BY transformers ALONE", "DIFFERENT"], 0)
    with tempfile.TemporaryDirectory() as home:
        for folder, tokenizer in folders(Path(home)):
            compare(folder, tokenizer, counts)
    for folder in map(Path, sys.argv[1:]):
        compare(folder, PreTrainedTokenizerFast.from_pretrained(folder), counts)
    for what, count in counts.items():
        print(f"{count:5} {what}")
    sys.exit(any(count for what, count in counts.items() if what.isupper() or "ALONE" in what))


if __name__ == "__main__":
    main()
