"""The same chain in datatrove: Gopher quality and repetition, C4, FineWeb, at its own defaults."""

import json
import sys
import time

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)

# The names of the filters' reasons in our words, by gate and rule.
REASONS = {
    "gopher_short_doc": "gopher@1.min_words",
    "gopher_long_doc": "gopher@1.max_words",
    "gopher_below_avg_threshold": "gopher@1.min_mean_word_length",
    "gopher_above_avg_threshold": "gopher@1.max_mean_word_length",
    "gopher_too_many_hashes": "gopher@1.max_symbol_word_ratio",
    "gopher_too_many_ellipsis": "gopher@1.max_symbol_word_ratio",
    "gopher_too_many_bullets": "gopher@1.max_bullet_line_ratio",
    "gopher_too_many_end_ellipsis": "gopher@1.max_ellipsis_line_ratio",
    "gopher_below_alpha_threshold": "gopher@1.min_alphabetic_word_ratio",
    "gopher_enough_stop_words": "gopher@1.min_stop_words",
    "dup_para_frac": "gopher@1.max_duplicate_paragraph_ratio",
    "dup_para_char_frac": "gopher@1.max_duplicate_paragraph_character_ratio",
    "dup_line_frac": "gopher@1.max_duplicate_line_ratio",
    "dup_line_char_frac": "gopher@1.max_duplicate_line_character_ratio",
    **{f"top_{n}_gram": f"gopher@1.max_top_{n}_gram_character_ratio" for n in range(2, 5)},
    **{f"duplicated_{n}_n_grams": f"gopher@1.max_duplicate_{n}_gram_character_ratio" for n in range(5, 11)},
    "lorem_ipsum": "c4@1.max_lorem_ipsum_lines",
    "curly_bracket": "c4@1.max_curly_bracket_lines",
    "too_few_sentences": "c4@1.min_sentences",
    "line_punct_ratio": "fineweb@1.min_terminated_line_ratio",
    "short_line_ratio": "fineweb@1.max_short_line_ratio",
    "char_dup_ratio": "fineweb@1.max_duplicate_line_character_ratio",
    "list_ratio": "fineweb@1.max_newline_word_ratio",
}


def chain():
    return [GopherQualityFilter(), GopherRepetitionFilter(), C4QualityFilter(), FineWebQualityFilter()]


def verdict(filters, text):
    """Why a text is rejected, in our words, and what is left of it; no reason where it is kept."""
    document = Document(text=text, id="0")
    for rule in filters:
        result = rule.filter(document)
        if result is not True:
            reason = result[1]
            where = "fineweb@1.min_lines" if reason == "empty" else REASONS[reason]
            return where, document.text
    return None, document.text


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    filters = chain()
    verdict(filters, "The first document loads the tokenizer.")
    started = time.process_time()
    verdicts = [verdict(filters, text)[0] for text in texts]
    seconds = time.process_time() - started
    print(json.dumps({"seconds": seconds, "verdicts": verdicts}))


if __name__ == "__main__":
    main()
