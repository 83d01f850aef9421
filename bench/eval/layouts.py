"""Writes what lm-evaluation-harness asks for tiny documents of our own: crates/nexa-eval/test-data/layouts.json.

Run with lm_eval 0.4.13: python bench/eval/layouts.py. Nothing is fetched and no model is needed.
"""
import json
import logging
import os
import pathlib
import tempfile

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
logging.disable(logging.WARNING)

import lm_eval.tasks
import yaml
from lm_eval.tasks import TaskManager

TASKS = pathlib.Path(lm_eval.tasks.__file__).parent
TARGET = pathlib.Path(__file__).parents[2] / "crates/nexa-eval/test-data/layouts.json"
SHOTS = 2


def mmlu(n):
    choices = [f"{letter}{n}" for letter in "abcd"]
    return {"question": f" Question {n}? ", "choices": choices, "answer": n % 4, "subject": "abstract_algebra"}


def arc(n):
    choices = {"text": [f"it's {n}", f"so {n}", "no"], "label": ["A", "B", "C"]}
    return {"id": f"q{n}", "question": f"Why {n}?", "choices": choices, "answerKey": "ABC"[n % 3]}


def hellaswag(n):
    endings = [f" stir [substeps] {n}.", "go  home.", "sing.", "eat."]
    context = {"ctx_a": f"[header] How to bake {n} [title] Mix. ", "ctx_b": "then YOU"}
    return {"ind": n, "activity_label": "Baking", **context, "endings": endings, "label": str(n % 4)}


def winogrande(n):
    sentence = f"Ann thanked Bob {n} times because _ helped."
    return {"sentence": sentence, "option1": "Ann", "option2": "Bob", "answer": str(n % 2 + 1)}


def piqa(n):
    return {"goal": f"To open {n}", "sol1": f"pull {n}", "sol2": f"push {n}", "label": n % 2}


def truthfulqa(n):
    one = {"choices": [f"Yes {n}.", "No."], "labels": [1, 0]}
    two = {"choices": [f"Yes {n}.", "Indeed.", "No."], "labels": [1, 1, 0]}
    return {"question": f"Is {n} true?", "mc1_targets": one, "mc2_targets": two}


def wikitext(n):
    return {"page": f" = Page {n} = \n It 's {n} @,@ 000 ( about ) . \n"}


def blimp(n):
    return {"sentence_good": f"Good {n}.", "sentence_bad": f"Bad {n}."}


def gsm8k(n):
    return {"question": f"What is {n} + {n}?", "answer": f"{n} + {n} = {n + n}\n#### {n + n}"}


def rows(make, *numbers):
    return [make(n) for n in numbers]


CASES = [
    ("gsm8k", "gsm8k/gsm8k.yaml", {"test": rows(gsm8k, 1, 2), "train": rows(gsm8k, *range(10, 40))}),
    ("gsm8k_cot", "gsm8k/gsm8k-cot.yaml", {"test": rows(gsm8k, 1)}),
    ("arc_easy", "arc/arc_easy.yaml", {"test": rows(arc, 1, 2), "train": rows(arc, *range(5, 12))}),
    ("arc_challenge", "arc/arc_challenge.yaml", {"test": rows(arc, 1), "train": rows(arc, *range(5, 12))}),
    ("hellaswag", "hellaswag/hellaswag.yaml", {"validation": rows(hellaswag, 1, 2), "train": rows(hellaswag, 5, 6, 7)}),
    (
        "mmlu_abstract_algebra",
        "mmlu/default/mmlu_abstract_algebra.yaml",
        {"test": rows(mmlu, 1, 2), "dev": rows(mmlu, *range(5, 10))},
    ),
    ("winogrande", "winogrande/default.yaml", {"validation": rows(winogrande, 1, 2), "train": rows(winogrande, 5, 6, 7)}),
    ("piqa", "piqa/piqa.yaml", {"validation": rows(piqa, 1), "train": rows(piqa, 5, 6, 7)}),
    ("truthfulqa_mc1", "truthfulqa/truthfulqa_mc1.yaml", {"validation": rows(truthfulqa, 1)}),
    ("truthfulqa_mc2", "truthfulqa/truthfulqa_mc2.yaml", {"validation": rows(truthfulqa, 1)}),
    ("wikitext", "wikitext/wikitext.yaml", {"test": rows(wikitext, 1), "train": rows(wikitext, 2, 3, 4)}),
    ("blimp_adjunct_island", "blimp/adjunct_island.yaml", {"train": rows(blimp, 1, 2)}),
]


def template(messages, add_generation_prompt=True):
    text = "".join(f"<{turn['role']}>{turn['content']}" for turn in messages)
    return text + ("<assistant>" if add_generation_prompt else "")


def requests(name, path, documents, style, folder):
    files = {}
    for split, lines in documents.items():
        files[split] = str(folder / f"{split}.jsonl")
        pathlib.Path(files[split]).write_text("".join(json.dumps(line) + "\n" for line in lines))
    own = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": files, "cache_dir": str(folder)}}
    # A split that these documents lack is one that the task does without.
    for key in ("training_split", "validation_split", "test_split"):
        included = yaml_of(TASKS / path).get(key)
        if included is not None and included not in documents:
            own[key] = None
    task_file = folder / "task.yaml"
    task_file.write_text(yaml.safe_dump({"include": str(TASKS / path), "task": name, **own}))
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    (task,) = manager.load([str(task_file)])["tasks"].values()
    if task.config.num_fewshot != 0:
        task.set_config("num_fewshot", SHOTS)
    task.set_fewshot_seed(1234)
    is_plain = style == "plain"
    task.build_all_requests(
        rank=0,
        world_size=1,
        system_instruction=None if is_plain else "Be brief.",
        apply_chat_template=not is_plain,
        fewshot_as_multiturn=style == "multiturn",
        chat_template=None if is_plain else template,
    )
    return [[part for part in instance.args if isinstance(part, str)] for instance in task.instances]


def yaml_of(path):
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: None)
    keys = yaml.load(path.read_text(), Loader)
    base = yaml_of(path.parent / keys["include"]) if "include" in keys else {}
    return {**base, **keys}


def main():
    found = []
    for name, path, documents in CASES:
        asked = {}
        for style in ("plain", "singleturn", "multiturn"):
            with tempfile.TemporaryDirectory() as folder:
                asked[style] = requests(name, path, documents, style, pathlib.Path(folder))
        found.append({"task": name, "documents": documents, "requests": asked})
    TARGET.write_text(json.dumps({"num_fewshot": SHOTS, "tasks": found}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
