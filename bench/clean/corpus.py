"""Prose without an author: sentences of invented words between the function words of English."""

STARTS = "b br c ch d f fl g gr h j k l m n p pl pr qu r s sh st t th tr v w".split()
VOWELS = "a e i o u ai ea ee oo ou".split()
STOPS = "l m n nd ng nt r rd rn s st t th ck sh".split()
FUNCTION = "the a of and to in that with for on as by from at this which their have be it was or but not".split()


def invented(random):
    parts = [random.choice(STARTS) + random.choice(VOWELS) for _ in range(random.choice([1, 2, 2, 3]))]
    return "".join(parts) + random.choice(STOPS)


def vocabulary(random, size=20_000):
    return [invented(random) for _ in range(size)]


def sentence(random, words, end="."):
    chosen = []
    for _ in range(random.randint(8, 22)):
        if random.random() < 0.42:
            chosen.append(random.choice(FUNCTION))
        else:
            # Cubed, so that some words are frequent and most are rare.
            chosen.append(words[int(random.random() ** 3 * len(words))])
        if random.random() < 0.06:
            chosen[-1] += ","
    text = " ".join(chosen).rstrip(",")
    return text[0].upper() + text[1:] + end


def prose(random, words, lines=8, each=3):
    return "\n".join(" ".join(sentence(random, words) for _ in range(each)) for _ in range(lines))
