"""Seeded documents with known near-duplicates, and pairs of known similarity."""

import json
import random

VOCABULARY = 30_000
SHINGLE_WORDS = 5


def vocabulary(rng):
    """Pronounceable words, all different, without digits or punctuation."""
    words = set()
    while len(words) < VOCABULARY:
        words.add("".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(2, 4))))
    return sorted(words)


def sentence(rng, words, count):
    # The square of a uniform number prefers the beginning of the vocabulary, as real texts prefer some words.
    return [words[int(len(words) * rng.random() ** 2)] for _ in range(count)]


def changed(rng, words, text, share):
    return [words[int(len(words) * rng.random())] if rng.random() < share else word for word in text]


def write(path, documents):
    with open(path, "w") as out:
        for identifier, text in documents:
            out.write(json.dumps({"id": identifier, "text": " ".join(text)}) + "\n")


def corpus(count, seed):
    """Documents: seven in ten alone, two near copies, one exact copy of an earlier one."""
    rng = random.Random(seed)
    words = vocabulary(rng)
    originals = []
    for number in range(count):
        draw = rng.random()
        if originals and draw < 0.1:
            text = rng.choice(originals)
        elif originals and draw < 0.3:
            text = changed(rng, words, rng.choice(originals), rng.uniform(0.005, 0.05))
        else:
            text = sentence(rng, words, rng.randint(80, 160))
            originals.append(text)
        yield f"d{number:07}", text


def pairs(count, seed):
    """Documents in pairs, the second with words of the first changed, so that similarities spread from 0.4 to 1."""
    rng = random.Random(seed)
    words = vocabulary(rng)
    for number in range(count):
        text = sentence(rng, words, rng.randint(150, 250))
        yield f"p{number:05}-a", text
        yield f"p{number:05}-b", changed(rng, words, text, rng.uniform(0.001, 0.11))


def shingles(text):
    return {tuple(text[at : at + SHINGLE_WORDS]) for at in range(len(text) - SHINGLE_WORDS + 1)}


def similarities(documents, at_least):
    """Brute force: the exact Jaccard similarity of every two documents, where it reaches a bound above 0."""
    sets = {identifier: shingles(text) for identifier, text in documents}
    holders = {}
    for identifier, own in sets.items():
        for shingle in own:
            holders.setdefault(shingle, []).append(identifier)
    # Two documents without a common shingle have similarity 0, so those that share one are all that need be compared.
    common = {}
    for identifiers in holders.values():
        for at, one in enumerate(identifiers):
            for other in identifiers[at + 1 :]:
                common[one, other] = common.get((one, other), 0) + 1
    found = {}
    for (one, other), shared in common.items():
        similarity = shared / (len(sets[one]) + len(sets[other]) - shared)
        if similarity >= at_least:
            found[one, other] = similarity
    return found
