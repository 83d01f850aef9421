"""Writes the test vectors of the gates: texts of our own, each beside datatrove's verdict on it.

    python bench/clean/vectors.py > crates/nexa-data/test-data/gates.jsonl
"""

import json
import random

from corpus import prose, sentence, vocabulary
from peer import chain, verdict

def cases():
    r = random.Random(4)
    words = vocabulary(r)
    good = prose(r, words)
    lines = good.split("\n")
    yield "prose", good
    yield "nothing", ""
    yield "blanks", " \n\n \n"
    yield "short", "Too short to be of use."
    yield "forty nine words", " ".join(["word"] * 49) + "."
    yield "tiny words", "a b to be of it is " * 20
    yield "huge words", ("incomprehensibilities " * 3 + "the of ") * 20
    yield "hashes", good.replace(".", " ####")
    yield "ellipses", good.replace(".", "...")
    yield "bullets", "\n".join(f"- {line}" for line in lines)
    yield "other bullets", "\n".join(f"  • {line}" for line in lines)
    yield "trailing ellipses", "\n".join(f"{line[:-1]} …" for line in lines)
    yield "numbers", good + " 1 22 333 4444 55555" * 20
    yield "no stop words", "\n".join(f"Nobody here speaks plain language number {n} today." for n in range(20))
    yield "lines twice", good + "\n" + good
    yield "one line often", "\n".join(lines + lines[:1] * 4)
    yield "paragraphs twice", "\n\n".join(lines + lines[:5])
    yield "one phrase", " ".join(["the same old words again and again,"] * 30)
    yield "pairs", " ".join(f"New York is {word}." for word in words[:60])
    yield "half repeated", good + " " + " ".join(lines[:2])
    yield "no numbers", good.replace(" the ", " 12 ").replace(" of ", " 7 ").replace(" and ", " 3 ")
    yield "menu", "\n".join(f"{noun} {verb}" for noun, verb in zip(words[:60], words[60:120]))
    yield "no ends", good.replace(".", "")
    yield "quoted ends", "\n".join(f'"{line}"' for line in lines)
    yield "citations", "\n".join(f"{line[:-1]}.[{n}]" for n, line in enumerate(lines))
    yield "edit marks", "\n".join(f"{line[:-1]}[edit] of it. [citation needed]" for line in lines)
    yield "script", good + "\nPlease enable JavaScript to see this page."
    yield "policy", "\n".join(f"{line} We use Cookies here." for line in lines[:5]) + "\n" + "\n".join(lines[5:])
    yield "lorem", good + "\nLorem ipsum dolor sit amet is here."
    yield "code", good + "\nint main() { return 0; }."
    yield "code without end", good + "\nint main() { return 0; }"
    yield "four sentences", "\n".join(sentence(r, words).replace(".", " and more of the same to come.") for _ in range(4))
    yield "five sentences", "\n".join(sentence(r, words).replace(".", " and more of the same to come.") for _ in range(5))
    yield "long word", "x" * 1001 + " is a word.\n" + good
    yield "short lines", "\n".join(sentence(r, words)[:24].strip() + "." for _ in range(40))
    yield "one duplicate line", good + "\n" + lines[2]
    yield "windows lines", good.replace("\n", "\r\n")
    yield "form feeds", good.replace("\n", "\f")
    yield "contractions", good.replace(". ", ". Don't think it's what we've seen; ")
    yield "addresses", good.replace(" of ", " https://www.example.com/a-b_c?d=e#f ")
    yield "accents", good.replace("e", "é").replace("thé", "the")
    yield "typographic", "\n".join(f"“{line[:-1]}”." for line in lines)
    yield "chinese", "这是一个很长的句子，它说明了很多事情。" * 20
    yield "mixed script", good + "\n" + "Это предложение написано по-русски. " * 6
    yield "emoji", good.replace(".", " 😀.")
    yield "division signs", good + " ÷ 1" * 23
    yield "hyphens", good.replace(" ", "-", 60)
    yield "tabs", good.replace(" ", "\t")
    yield "abbreviations", good.replace(" to ", " Mr. Smith e.g. ").replace(" in ", " U.S. ")


def main():
    filters = chain()
    for name, text in cases():
        rejected, left = verdict(filters, text)
        alone = []
        for rule in filters:
            alone.append(verdict([rule], text)[0])
        row = {"name": name, "text": text, "rejected": rejected, "alone": alone, "left": left if rejected is None else None}
        print(json.dumps(row, ensure_ascii=False))


if __name__ == "__main__":
    main()
