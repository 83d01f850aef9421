"""Writes the task files that both sides run, and the rows of those tasks that need no data of others.

The files are those of lm-evaluation-harness in form (`dataset_path: json` with local `data_files`), without Python. Each
is there for something in which scores of two programs part:

| task | for |
|---|---|
| `blimp_*`, `blimp_four` | an empty context; a group |
| `gsm8k`, `gsm8k_short` | examples drawn from a training split, two filters, stops; prompts that are cut (small models) |
| `capitals` | normalisation by characters and by bytes (choices in five scripts), a description |
| `capitals_first` | `include`, the first examples instead of drawn ones, another delimiter |
| `capitals_any` | several right answers |
| `letters` | choices of one token |
| `blanks` | choices in the context; examples from the split that is evaluated |
| `last_words` | a blank at the end of the context, none at all, bits of words; `perplexity` with its bootstrap |
| `texts` | windows over a text longer than the context; short texts, blanks at the ends, other scripts |
| `answers`, `answers_begun` | stops that were not given, filters; a beginning of the answer that is given |
"""

import json
import random

BLIMP = ["adjunct_island", "anaphor_number_agreement", "determiner_noun_agreement_1", "wh_vs_that_no_gap"]
BLIMP_TASKS = [f"blimp_{name}" for name in BLIMP]
GROUP = "blimp_four"
CHOICES = ["capitals", "capitals_first", "capitals_any", "letters", "blanks", "last_words"]
ANSWERS = ["answers", "answers_begun"]
TEXTS = ["texts"]

BLIMP_FILE = """\
task: blimp_{name}
dataset_path: json
dataset_kwargs:
  data_files:
    train: {file}
validation_split: train
output_type: multiple_choice
doc_to_text: ""
doc_to_target: 0
doc_to_choice: "{{{{[sentence_good, sentence_bad]}}}}"
num_fewshot: 0
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""

GROUP_FILE = """\
group: blimp_four
task:
{tasks}
aggregate_metric_list:
  - metric: acc
    aggregation: mean
    weight_by_size: true
metadata:
  version: 1.0
"""

GSM8K_FILE = r"""
task: gsm8k
dataset_path: json
dataset_kwargs:
  data_files:
    train: {train}
    test: {test}
training_split: train
fewshot_split: train
test_split: test
output_type: generate_until
doc_to_text: "Question: {{{{question}}}}\nAnswer:"
doc_to_target: "{{{{answer}}}}"
num_fewshot: 5
generation_kwargs:
  until:
    - "Question:"
    - "</s>"
    - "<|im_end|>"
  do_sample: false
  temperature: 0.0
filter_list:
  - name: strict-match
    filter:
      - function: regex
        regex_pattern: "#### (\\-?[0-9\\.\\,]+)"
      - function: take_first
  - name: flexible-extract
    filter:
      - function: regex
        group_select: -1
        regex_pattern: "(-?[$0-9.,]{{2,}})|(-?[0-9]+)"
      - function: take_first
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    ignore_case: true
    ignore_punctuation: false
    regexes_to_ignore:
      - ","
      - "\\$"
      - "(?s).*#### "
      - "\\.$"
metadata:
  version: 3.0
"""

GSM8K_SHORT_FILE = """\
include: gsm8k.yaml
task: gsm8k_short
generation_kwargs:
  until: ["Question:"]
  do_sample: false
  max_gen_toks: 32
"""

OWN = {
    "capitals": """\
task: capitals
dataset_path: json
dataset_kwargs:
  data_files:
    train: {data}/capitals_train.jsonl
    test: {data}/capitals.jsonl
test_split: test
fewshot_split: train
output_type: multiple_choice
description: "Name the capital of {{{{country}}}} or of another country.\\n\\n"
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: answer
num_fewshot: 3
metric_list:
  - metric: acc
  - metric: acc_norm
  - metric: acc_bytes
  - metric: acc_mutual_info
  - metric: exact_match
  - metric: brier_score
metadata:
  version: 1.0
""",
    "capitals_first": """\
include: capitals.yaml
task: capitals_first
description: ""
doc_to_text: "Question: {{{{question}}}}?\\nAnswer:"
doc_to_target: "{{{{choices[answer]}}}}"
fewshot_delimiter: "\\n###\\n"
target_delimiter: "\\n"
fewshot_config:
  sampler: first_n
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
""",
    "capitals_any": """\
task: capitals_any
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}/capitals.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{[answer, other]}}}}"
num_fewshot: 0
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
""",
    "letters": """\
task: letters
dataset_path: json
dataset_kwargs:
  data_files:
    train: {data}/capitals_train.jsonl
    test: {data}/capitals.jsonl
test_split: test
fewshot_split: train
output_type: multiple_choice
doc_to_text: |-
  {{{{question.strip()}}}}
  {{% for choice in choices %}}{{{{ "ABCD"[loop.index0] }}}}. {{{{ choice }}}}
  {{% endfor %}}Answer:
doc_to_choice: ["A", "B", "C", "D"]
doc_to_target: answer
num_fewshot: 2
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
""",
    "blanks": """\
task: blanks
dataset_path: json
dataset_kwargs:
  data_files:
    validation: {data}/blanks.jsonl
validation_split: validation
output_type: multiple_choice
doc_to_text: "{{% if answer == '1' %}}0{{% else %}}1{{% endif %}}"
doc_to_choice: "{{{{[sentence.split('_')[0] + option1, sentence.split('_')[0] + option2]}}}}"
doc_to_target: "{{{{sentence.split('_')[1].strip()}}}}"
num_fewshot: 2
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
""",
    "last_words": """\
task: last_words
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}/last_words.jsonl
test_split: test
output_type: loglikelihood
doc_to_text: "{{{{context}}}}"
doc_to_target: "{{{{continuation}}}}"
num_fewshot: 0
metric_list:
  - metric: perplexity
    aggregation: perplexity
    higher_is_better: false
  - metric: acc
    aggregation: mean
    higher_is_better: true
""",
    "texts": """\
task: texts
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}/texts.jsonl
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
num_fewshot: 0
metric_list:
  - metric: word_perplexity
  - metric: byte_perplexity
  - metric: bits_per_byte
""",
    "answers": """\
task: answers
dataset_path: json
dataset_kwargs:
  data_files:
    train: {data}/capitals_train.jsonl
    test: {data}/capitals.jsonl
test_split: test
fewshot_split: train
output_type: generate_until
doc_to_text: "Q: {{{{question}}}}\\nA:"
doc_to_target: "{{{{choices[answer]}}}}"
num_fewshot: 2
generation_kwargs:
  do_sample: false
  max_gen_toks: 24
filter_list:
  - name: whole
    filter:
      - function: remove_whitespace
      - function: take_first
  - name: capitalised
    filter:
      - function: regex
        regex_pattern: "\\\\b([A-Z][a-z]+)\\\\b"
        fallback: nothing
      - function: lowercase
      - function: take_first
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    ignore_case: true
    ignore_punctuation: true
""",
    "answers_begun": """\
include: answers.yaml
task: answers_begun
gen_prefix: "It is"
generation_kwargs:
  until: ["\\n", "."]
  do_sample: false
  max_gen_toks: 16
""",
}

# Capitals in Latin, Cyrillic, Greek, Japanese and Arabic writing.
CAPITALS = {
    "France": ["Paris", "Париж", "Παρίσι", "パリ", "باريس"],
    "Russia": ["Moscow", "Москва", "Μόσχα", "モスクワ", "موسكو"],
    "Greece": ["Athens", "Афины", "Αθήνα", "アテネ", "أثينا"],
    "Japan": ["Tokyo", "Токио", "Τόκιο", "東京", "طوكيو"],
    "Denmark": ["København", "Копенгаген", "Κοπεγχάγη", "コペンハーゲン", "كوبنهاغن"],
    "Portugal": ["Lisboa", "Лиссабон", "Λισαβόνα", "リスボン", "لشبونة"],
    "Iceland": ["Reykjavík", "Рейкьявик", "Ρέικιαβικ", "レイキャビク", "ريكيافيك"],
    "Romania": ["București", "Бухарест", "Βουκουρέστι", "ブカレスト", "بوخارست"],
    "Paraguay": ["Asunción", "Асунсьон", "Ασουνσιόν", "アスンシオン", "أسونسيون"],
    "Egypt": ["Cairo", "Каир", "Κάιρο", "カイロ", "القاهرة"],
}
QUESTIONS = [
    "The capital of {} is", "La capitale de {} est", "Столица страны {} —", "Πρωτεύουσα ({}):", "{}の首都は", "  The seat of {}'s government:",
]
BLANKS = [
    ("The {0} does not fit into the {1} because the _ is too large.", "1"),
    ("The {0} does not fit into the {1} because the _ is too small.", "2"),
    ("She put the {0} beside the {1}, for the _ had to stay — where it was.", "2"),
    ("They carried the {0} out of the {1} and found that the _ was empty", "2"),
]
THINGS = ["trophy", "suitcase", "piano", "café table", "lamp", "crate", "drawer", "bicycle", "vase", "cupboard"]
LAST_WORDS = [
    ("The capital of France is", " Paris"), ("The capital of France is ", "Paris"), ("The capital of France is  ", " Paris"),
    ("Once upon a", " time"), ("Once upon a ti", "me there"), ("one two three four", " five six seven"), ("", "The"), ("", " The sun"),
    ("A\n", "B"), ("A\n\n", "\nB"), ("1, 2, 3, 4,", " 5"), ("12", "345"), ("Ça va, Zoé", "! Où est l’œuvre ?"), ("東京は日本の", "首都"),
    ("<s>", "x"), ("To be, or not to be,", " that is the question"), ("tab\t", "\tstop"), ("def f(x):\n    ", "return x"),
]
SHORT_TEXTS = [
    "A", "Once upon a time there was a small house by the sea.", "  two blanks at either end  ", "line one\nline two\n\n\nline five\n",
    "Zoë, naïve façade — “quoted” …", "Скорость света в вакууме постоянна.", "東京は日本の首都です。", "x" * 60, "1234567890 3.14159 -17",
    "non\u00a0breaking\u2003and\u200bzero width", "🦀🦀 crabs",
]


def capitals(count, random):
    """Questions with four choices, each in a script of its own, of which one or (now and then in two scripts) two are right."""
    rows = []
    for at in range(count):
        countries = random.sample(sorted(CAPITALS), 4)
        answer = random.randrange(4)
        country = countries[answer]
        scripts = random.sample(range(5), 4)
        choices = [CAPITALS[name][script] for name, script in zip(countries, scripts)]
        rows.append({
            "country": country, "question": QUESTIONS[at % len(QUESTIONS)].format(country), "choices": choices,
            "answer": answer, "other": (answer + 1) % 4,
        })
    return rows


def blanks(count, random):
    rows = []
    for at in range(count):
        sentence, answer = BLANKS[at % len(BLANKS)]
        one, other = random.sample(THINGS, 2)
        rows.append({"sentence": sentence.format(one, other), "option1": one, "option2": other, "answer": answer})
    return rows


def read(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def prepare(folder, blimp, gsm8k, long_characters=12_000):
    """Writes all task files and rows below `folder`, and returns the folder of the files."""
    files, data = folder / "tasks", folder / "data"
    files.mkdir(parents=True, exist_ok=True)
    data.mkdir(exist_ok=True)
    seeded = random.Random(17)
    write(data / "capitals.jsonl", capitals(60, seeded))
    write(data / "capitals_train.jsonl", capitals(20, seeded))
    write(data / "blanks.jsonl", blanks(40, seeded))
    write(data / "last_words.jsonl", [{"context": one, "continuation": other} for one, other in LAST_WORDS])
    problems = "\n\n".join(f"{row['question']}\n{row['answer']}" for row in read(gsm8k / "test.jsonl")[-200:])
    write(data / "texts.jsonl", [{"text": text} for text in [problems[:long_characters], *SHORT_TEXTS]])
    for name in BLIMP:
        text = BLIMP_FILE.format(name=name, file=json.dumps(str(blimp / f"{name}.jsonl")))
        (files / f"blimp_{name}.yaml").write_text(text, encoding="utf-8")
    (files / f"{GROUP}.yaml").write_text(GROUP_FILE.format(tasks="\n".join(f"  - {task}" for task in BLIMP_TASKS)), encoding="utf-8")
    text = GSM8K_FILE.lstrip().format(train=json.dumps(str(gsm8k / "train.jsonl")), test=json.dumps(str(gsm8k / "test.jsonl")))
    (files / "gsm8k.yaml").write_text(text, encoding="utf-8")
    (files / "gsm8k_short.yaml").write_text(GSM8K_SHORT_FILE, encoding="utf-8")
    for task, text in OWN.items():
        (files / f"{task}.yaml").write_text(text.format(data=data), encoding="utf-8")
    return files
