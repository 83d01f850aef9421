"""Writes what lm-evaluation-harness makes of tasks and documents of our own, with a model whose probabilities and answers
are made of the texts themselves: crates/nexa-eval/test-data/harness/expected.json.

Run with lm_eval 0.4.13: python bench/eval/results.py. Nothing is fetched. The model is that of tests/it/results.rs.
"""
import json
import logging
import os
import pathlib
import tempfile

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["DISABLE_MULTIPROC"] = "1"
logging.disable(logging.WARNING)

import lm_eval
import yaml
from lm_eval.api.model import LM
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager

FOLDER = pathlib.Path(__file__).parents[2] / "crates/nexa-eval/test-data/harness"
NAMES = ["letters", "last_word", "pages", "several", "translated"]
ANSWERS = ["The answer is (B).", " b ", "no idea", "C", "(A) or (B)", "B\n\nbecause"]


def nats(context, continuation):
    text = (context + continuation).encode()
    return sum(byte * (at + 1) for at, byte in enumerate(text)) % 97 / 8


class Parrot(LM):
    def loglikelihood(self, requests):
        scores = [nats(*request.args) for request in requests]
        return [(-score, score < 3) for score in scores]

    def loglikelihood_rolling(self, requests):
        return [-nats("", request.args[0]) for request in requests]

    def generate_until(self, requests):
        replies = []
        for request in requests:
            prompt, settings = request.args
            reply = ANSWERS[sum(prompt.encode()) % len(ANSWERS)]
            for stop in settings["until"]:
                reply = reply.split(stop)[0]
            replies.append(reply)
        return replies


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for path in FOLDER.iterdir():
            text = path.read_text()
            if path.suffix == ".yaml":
                # The reference takes paths of documents from the working folder, and caches them by name.
                keys = yaml.safe_load(text)
                if "dataset_kwargs" in keys:
                    files = keys["dataset_kwargs"]["data_files"]
                    keys["dataset_kwargs"] = {
                        "data_files": {split: str(folder / name) for split, name in files.items()},
                        "cache_dir": str(folder / "cache"),
                    }
                    text = yaml.safe_dump(keys, sort_keys=False)
            (folder / path.name).write_text(text)
        manager = TaskManager(include_path=str(folder), include_defaults=False)
        found = lm_eval.simple_evaluate(
            Parrot(), tasks=NAMES, task_manager=manager, bootstrap_iters=2000, log_samples=True, num_fewshot=None
        )
        samples = found.pop("samples")
        tracker = EvaluationTracker(output_path=str(folder / "out"))
        tracker.general_config_tracker.model_name_sanitized = "parrot"
        tracker.date_id = "now"
        for task, lines in samples.items():
            tracker.save_results_samples(task_name=task, samples=lines)
        kept = ["results", "groups", "group_subtasks", "versions", "n-shot", "higher_is_better", "n-samples"]
        expected = {key: found[key] for key in kept}
        expected["samples"] = {}
        for path in sorted((folder / "out" / "parrot").glob("samples_*.jsonl")):
            task = path.name.removeprefix("samples_").removesuffix("_now.jsonl")
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            for line in lines:
                # Hashes of the reference tell nothing that stands not beside them.
                for key in ["doc_hash", "prompt_hash", "target_hash"]:
                    line.pop(key)
            expected["samples"][task] = lines
        (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False, default=float) + "\n")


if __name__ == "__main__":
    main()
