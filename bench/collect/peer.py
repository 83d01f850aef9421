"""Asks a provider for so many answers through Curator, and prints the seconds that took as JSON."""

import json
import os
import sys
import time

url, prompts, concurrency = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.environ["TELEMETRY_ENABLED"] = "false"
os.environ["CURATOR_VIEWER"] = "0"
os.environ["OPENAI_API_KEY"] = "none"

import tiktoken  # noqa: E402


class Characters:
    """Stands in for the vocabulary that Curator downloads to count tokens; it is faster, if anything."""

    def encode(self, text, **_):
        return range(len(text) // 4)


tiktoken.get_encoding = lambda _name: Characters()

from bespokelabs import curator  # noqa: E402  (it reads the environment when it is imported)

questions = [f"Question {n}: say something about {n}." for n in range(prompts)]
model = curator.LLM(
    model_name="mock",
    backend="openai",
    backend_params={
        "base_url": url,
        "max_concurrent_requests": concurrency,
        "max_requests_per_minute": 10_000_000,
        "max_tokens_per_minute": 1_000_000_000,
    },
)
started = time.monotonic()
answers = model(questions)
seconds = time.monotonic() - started
rows = getattr(answers, "dataset", answers)
assert len(rows) == prompts, len(rows)
print(json.dumps({"seconds": seconds}))
