#!/usr/bin/env python3
"""Checks `nexa inference` with the official `openai` client.

    python3 scripts/check_openai_client.py NEXA CHECKPOINT [--lab LAB]
    python3 scripts/check_openai_client.py --url http://127.0.0.1:8000/v1 [--key KEY]

The first form starts the server on a free port of this machine, with a file of keys, small limits and a lab where one is
named, and also checks what only its starter can: loading, keys, a full queue, the request timeout, and SIGTERM with a
request in flight. The second form checks replies of a server that runs. CHECKPOINT is whatever `nexa inference` takes.

Needs `pip install openai`. Exits with 0 when everything is as the client expects.
"""

import argparse
import asyncio
import base64
import concurrent.futures
import json
import math
import os
import re
import signal
import struct
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Literal

import openai
from pydantic import BaseModel, Field

MESSAGES = [{"role": "user", "content": "Say hello."}]
KEYS = ["first-key", "second-key"]
CHAT = dict(messages=MESSAGES, temperature=0, seed=1, max_completion_tokens=32)
# Room for whatever a model without training puts between the parts of JSON.
FORMED = {**CHAT, "max_completion_tokens": 400}


class Term(BaseModel):
    """A part of a sum, which schemas refer to."""

    digit: int = Field(ge=0, le=9)


class Sum(BaseModel):
    """The tool, and the form of an answer."""

    first: Term
    second: Term
    sign: Literal["plus", "minus"]


def client_of(url: str, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=120)


def check_models(client: openai.OpenAI) -> str:
    models = client.models.list().data
    assert models and all(model.object == "model" for model in models), models
    name = models[0].id
    assert client.models.retrieve(name).id == name
    return name


def check_chat(client: openai.OpenAI, model: str) -> str:
    reply = client.chat.completions.create(model=model, **CHAT)
    choice = reply.choices[0]
    assert reply.object == "chat.completion" and reply.system_fingerprint, reply
    assert choice.message.role == "assistant", choice
    assert choice.finish_reason in ("stop", "length"), choice
    usage = reply.usage
    assert usage.prompt_tokens > 0 and usage.completion_tokens > 0, usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage
    return choice.message.content


def check_stream(client: openai.OpenAI, model: str, text: str) -> None:
    chunks = list(
        client.chat.completions.create(model=model, **CHAT, stream=True, stream_options={"include_usage": True})
    )
    assert len({chunk.id for chunk in chunks}) == 1, "one id for all chunks"
    assert len({chunk.system_fingerprint for chunk in chunks}) == 1, "one fingerprint for all chunks"
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert streamed == text, (streamed, text)
    reasons = [chunk.choices[0].finish_reason for chunk in chunks[:-1]]
    assert reasons[-1] in ("stop", "length") and not any(reasons[:-1]), reasons
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0, chunks[-1]
    assert all(chunk.usage is None for chunk in chunks[:-1])


def check_stream_helper(client: openai.OpenAI, model: str, text: str) -> None:
    with client.chat.completions.stream(model=model, **CHAT) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == text, final


def check_choices(client: openai.OpenAI, model: str, text: str) -> None:
    arguments = dict(model=model, messages=MESSAGES, temperature=1, seed=5, max_completion_tokens=8)
    several = client.chat.completions.create(**arguments, n=3)
    assert [choice.index for choice in several.choices] == [0, 1, 2], several
    first = client.chat.completions.create(**arguments).choices[0].message.content
    assert several.choices[0].message.content == first, (several, first)
    rated = client.chat.completions.create(model=model, **CHAT, logprobs=True, top_logprobs=2)
    tokens = rated.choices[0].logprobs.content
    assert b"".join(bytes(token.bytes) for token in tokens).decode() == text, tokens
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in tokens), tokens
    assert all(token.top_logprobs[0].logprob == token.logprob for token in tokens), "greedy takes the most probable"
    if len(text) > 4:
        # A text in the middle, which no token need begin or end with.
        stop = text[2:4]
        stopped = client.chat.completions.create(model=model, **CHAT, stop=[stop]).choices[0]
        assert stopped.message.content == text[: text.index(stop)], (stopped, stop)
        assert stopped.finish_reason == "stop", stopped


def check_completion(client: openai.OpenAI, model: str) -> None:
    arguments = dict(model=model, prompt="Once upon a time", temperature=0, max_tokens=8)
    whole = client.completions.create(**arguments)
    streamed = "".join(chunk.choices[0].text for chunk in client.completions.create(**arguments, stream=True))
    assert whole.object == "text_completion" and whole.choices[0].text == streamed, (whole, streamed)
    echoed = client.completions.create(**arguments, echo=True, logprobs=1)
    assert echoed.choices[0].text == "Once upon a time" + streamed, echoed
    rated = echoed.choices[0].logprobs
    assert len(rated.tokens) == len(rated.token_logprobs) == len(rated.top_logprobs) == len(rated.text_offset)
    assert rated.token_logprobs[0] is None and all(value <= 0 for value in rated.token_logprobs[1:]), rated
    prompt = client.completions.create(**{**arguments, "max_tokens": 0}, echo=True, logprobs=1).choices[0]
    assert prompt.text == "Once upon a time", prompt
    assert prompt.logprobs.token_logprobs == rated.token_logprobs[: len(prompt.logprobs.tokens)], prompt


def check_embeddings(client: openai.OpenAI, model: str) -> None:
    texts = ["the cat sat on the mat", "a cat on a mat", "12 + 30 = 42"]
    # The client asks for base64 where nothing is said, and decodes it.
    vectors = [item.embedding for item in client.embeddings.create(model=model, input=texts).data]
    floats = client.embeddings.create(model=model, input=texts, encoding_format="float").data
    raw = client.embeddings.create(model=model, input=texts[0], encoding_format="base64").data[0].embedding
    decoded = list(struct.unpack(f"<{len(vectors[0])}f", base64.b64decode(raw)))
    assert max(abs(a - b) for a, b in zip(vectors[0], decoded)) < 1e-6
    for vector, other in zip(vectors, floats):
        assert abs(math.hypot(*vector) - 1) < 1e-4, math.hypot(*vector)
        assert max(abs(a - b) for a, b in zip(vector, other.embedding)) < 1e-6


def check_form(client: openai.OpenAI, model: str) -> None:
    reply = client.chat.completions.parse(model=model, **FORMED, response_format=Sum)
    assert isinstance(reply.choices[0].message.parsed, Sum), reply
    with client.chat.completions.stream(model=model, **FORMED, response_format=Sum) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == reply.choices[0].message.parsed
    bad = {"type": "json_schema", "json_schema": {"name": "bad", "schema": {"type": "nonsense"}}}
    try:
        client.chat.completions.create(model=model, **FORMED, response_format=bad)
    except openai.BadRequestError as error:
        assert "schema" in str(error), error
    else:
        raise AssertionError("a schema that means nothing was taken")


def check_tools(client: openai.OpenAI, model: str) -> None:
    tool = openai.pydantic_function_tool(Sum)
    other = {"type": "function", "function": {"name": "stop", "parameters": {"type": "object", "properties": {}}}}
    more = dict(tools=[tool, other], parallel_tool_calls=False)
    named = {"type": "function", "function": {"name": "Sum"}}
    try:
        reply = client.chat.completions.create(model=model, **FORMED, **more, tool_choice=named)
    except openai.BadRequestError as error:
        if error.param == "tools" and "knows no tools" in str(error):
            print("tools: not checked, the chat template knows none")
            return
        raise
    choice = reply.choices[0]
    assert choice.finish_reason == "tool_calls", choice
    [call] = choice.message.tool_calls
    assert call.id and call.function.name == "Sum", call
    arguments = Sum.model_validate_json(call.function.arguments)
    # The helper takes only tools whose arguments it can read.
    with client.chat.completions.stream(model=model, **FORMED, tools=[tool], tool_choice=named) as stream:
        [streamed] = stream.get_final_completion().choices[0].message.tool_calls
    assert streamed.function.parsed_arguments == arguments, streamed
    # A call that is demanded comes before the form of an answer.
    both = client.chat.completions.create(
        model=model, **FORMED, **more, tool_choice="required", response_format={"type": "json_object"}
    )
    [either] = both.choices[0].message.tool_calls
    assert either.function.name in ("Sum", "stop") and isinstance(json.loads(either.function.arguments), dict), either
    # The model reads what it has called, and what came of it.
    turns = [*MESSAGES, choice.message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "3"}]
    answer = client.chat.completions.create(model=model, **{**CHAT, "messages": turns}, tools=more["tools"], tool_choice="none")
    assert answer.choices[0].message.tool_calls is None, answer


def check_async(client: openai.OpenAI, model: str, text: str) -> None:
    async def ask() -> None:
        async with openai.AsyncOpenAI(
            base_url=client.base_url, api_key=client.api_key, max_retries=0, timeout=120
        ) as many:
            replies = await asyncio.gather(*(many.chat.completions.create(model=model, **CHAT) for _ in range(4)))
            assert all(reply.choices[0].message.content == text for reply in replies), replies
            stream = await many.chat.completions.create(model=model, **CHAT, stream=True)
            pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
            assert "".join(pieces) == text, pieces

    asyncio.run(ask())


def expect(kind: type, code: str, call) -> None:
    try:
        call()
    except kind as error:
        assert error.code == code, error
        return
    raise AssertionError(f"no {kind.__name__}")


def check_errors(client: openai.OpenAI, model: str) -> None:
    def create(**more):
        return client.chat.completions.create(**{"model": model, **CHAT, **more})

    expect(openai.NotFoundError, "model_not_found", lambda: create(model="no-such-model"))
    expect(openai.BadRequestError, "invalid_value", lambda: create(n=1000))
    expect(openai.BadRequestError, "unknown_parameter", lambda: create(extra_body={"temprature": 1}))
    long = [{"role": "user", "content": "word " * 200_000}]
    expect(openai.BadRequestError, "context_length_exceeded", lambda: create(messages=long))


def check_replies(client: openai.OpenAI) -> str:
    model = check_models(client)
    text = check_chat(client, model)
    check_stream(client, model, text)
    check_stream_helper(client, model, text)
    check_choices(client, model, text)
    check_completion(client, model)
    check_embeddings(client, model)
    check_form(client, model)
    check_tools(client, model)
    check_async(client, model, text)
    check_errors(client, model)
    return model


class Server:
    """`nexa inference` on a free port of this machine."""

    def __init__(self, nexa: str, checkpoint: str, lab: str | None, *more: str):
        keys = tempfile.NamedTemporaryFile("w", suffix=".keys", delete=False)
        keys.write("# keys of the check\n" + "\n".join(KEYS) + "\n")
        keys.close()
        os.chmod(keys.name, 0o600)
        command = [nexa, *(["--lab", lab] if lab else []), "inference", "--checkpoint", checkpoint]
        command += ["--port", "0", "--api-key-file", keys.name, *more]
        environment = {name: value for name, value in os.environ.items() if name != "NEXA_API_KEY"}
        self.keys = Path(keys.name)
        self.process = subprocess.Popen(command, text=True, stderr=subprocess.PIPE, env=environment)
        self.said = []
        self.address = self.wait_for(r"listening on (\S+:\d+)")
        self.url = f"http://{self.address}/v1"

    def wait_for(self, pattern: str) -> str:
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(pattern, line):
                return found.group(1)
        raise SystemExit("nexa inference ended before it served: " + "".join(self.said))

    def wait_until_ready(self) -> None:
        self.wait_for(r"serving \S.* on (http://\S+)")
        # What else it says must not fill the pipe.
        threading.Thread(target=lambda: self.said.extend(self.process.stderr), daemon=True).start()

    def status(self, path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}") as response:
                return response.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        self.keys.unlink()
        assert not any(key in line for line in self.said for key in KEYS), "a key was shown"


def check_loading(server: Server) -> None:
    """While the model is loaded, requests are refused with 503. It may be too small to be seen loading."""
    ready = server.status("/ready")
    # Asked in this order: what is ready is well from then on.
    well = server.status("/health")
    assert {ready, well} <= {200, 503} and (ready, well) != (200, 503), (ready, well)
    if well == 503:
        try:
            client_of(server.url, KEYS[0]).models.list()
        except openai.InternalServerError as error:
            assert error.status_code == 503 and error.code == "loading", error
            assert "retry-after" in error.response.headers, error.response.headers
            print("loading: a request was refused meanwhile")
    server.wait_until_ready()
    # It is said no earlier than it is so.
    found = {path: server.status(path) for path in ("/ready", "/health")}
    assert set(found.values()) == {200}, found


def check_keys(server: Server) -> None:
    for key in KEYS:
        client_of(server.url, key).models.list()
    expect(openai.AuthenticationError, "invalid_api_key", client_of(server.url, "third-key").models.list)


def check_manifest(server: Server, model: str) -> None:
    client = client_of(server.url, KEYS[0])
    raw = client.chat.completions.with_raw_response.create(model=model, **CHAT)
    manifest = raw.headers.get("x-nexa-manifest")
    if manifest:
        assert raw.parse().system_fingerprint == manifest, manifest


def endless(client: openai.OpenAI, model: str):
    more = {"ignore_eos": True}
    return client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=100_000, extra_body=more, stream=True)


def check_full(server: Server, model: str) -> None:
    """With one place in the batch and one in the queue, the third request is refused, and a client that goes frees its place."""
    client = client_of(server.url, KEYS[0])
    streams = [endless(client, model), endless(client, model)]
    expect(openai.RateLimitError, "queue_full", lambda: endless(client, model))
    for stream in streams:
        stream.close()
    for _ in range(200):
        try:
            client.chat.completions.create(model=model, **CHAT)
            return
        except openai.RateLimitError:
            time.sleep(0.05)
    raise AssertionError("clients that went away still hold their places")


def check_sigterm(server: Server, model: str) -> None:
    """A request in flight is finished, new ones are refused, and the process ends well."""
    client = client_of(server.url, KEYS[0])
    arguments = dict(model=model, messages=MESSAGES, max_tokens=64, extra_body={"ignore_eos": True})
    stream = client.chat.completions.create(**arguments, stream=True)
    next(iter(stream))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        rest = pool.submit(lambda: [chunk.choices[0].finish_reason for chunk in stream])
        server.process.send_signal(signal.SIGTERM)
        while server.status("/ready") == 200:
            time.sleep(0.01)
        # A fast model has ended by now, and the port is closed; a slow one still writes, and new requests get 503.
        was_writing = not rest.done()
        try:
            client.chat.completions.create(model=model, **CHAT)
            raise AssertionError("a new request was accepted")
        except (openai.InternalServerError, openai.APIConnectionError):
            pass
        assert rest.result()[-1] == "length", rest.result()
    assert server.process.wait(timeout=60) == 0, server.process.returncode
    print("SIGTERM: a new request was refused, and the one in flight was finished", "later" if was_writing else "before")


def check_timeout(nexa: str, checkpoint: str, lab: str | None) -> None:
    with Server(nexa, checkpoint, lab, "--request-timeout", "1") as server:
        check_loading(server)
        client = client_of(server.url, KEYS[0])
        model = client.models.list().data[0].id
        more = {"ignore_eos": True}
        length = 10_000_000
        try:
            # A context that is full ends an answer before the second is over; such a model cannot be asked this.
            reply = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=length, extra_body=more)
            print(f"timeout: not checked, the context was full after {reply.usage.completion_tokens} tokens")
        except openai.InternalServerError as error:
            assert error.status_code == 504 and error.code == "request_timeout", error


def main() -> None:
    parser = argparse.ArgumentParser(description="Checks nexa inference with the official openai client.")
    parser.add_argument("nexa", nargs="?")
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("--lab")
    parser.add_argument("--url")
    parser.add_argument("--key", default="none")
    arguments = parser.parse_args()
    if arguments.url:
        model = check_replies(client_of(arguments.url, arguments.key))
    elif not arguments.checkpoint:
        parser.error("name NEXA and CHECKPOINT, or --url")
    else:
        started = (arguments.nexa, arguments.checkpoint, arguments.lab)
        with Server(*started) as server:
            check_loading(server)
            check_keys(server)
            model = check_replies(client_of(server.url, KEYS[0]))
            check_manifest(server, model)
        with Server(*started, "--max-batch", "1", "--max-queued", "1") as server:
            check_loading(server)
            check_full(server, model)
            check_sigterm(server, model)
        check_timeout(*started)
    print(f"openai {openai.__version__}: all checks passed (model {model})")


if __name__ == "__main__":
    main()
