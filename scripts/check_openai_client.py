#!/usr/bin/env python3
"""Checks a running server with the official `openai` client.

    python3 scripts/check_openai_client.py http://127.0.0.1:8000/v1 [API_KEY]

Needs `pip install openai`. Exits with 0 when replies, streams, listings and errors are what the client expects.
"""

import sys

import openai

MESSAGES = [{"role": "user", "content": "Say hello."}]


def check_models(client: openai.OpenAI) -> str:
    models = client.models.list().data
    assert models and all(model.object == "model" for model in models), models
    name = models[0].id
    assert client.models.retrieve(name).id == name
    return name


def check_chat(client: openai.OpenAI, model: str) -> str:
    reply = client.chat.completions.create(
        model=model, messages=MESSAGES, temperature=0, seed=1, max_completion_tokens=32
    )
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
        client.chat.completions.create(
            model=model,
            messages=MESSAGES,
            temperature=0,
            seed=1,
            max_completion_tokens=32,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert len({chunk.id for chunk in chunks}) == 1, "one id for all chunks"
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert streamed == text, (streamed, text)
    reasons = [chunk.choices[0].finish_reason for chunk in chunks[:-1]]
    assert reasons[-1] in ("stop", "length") and not any(reasons[:-1]), reasons
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0, chunks[-1]
    assert all(chunk.usage is None for chunk in chunks[:-1])


def check_stream_helper(client: openai.OpenAI, model: str, text: str) -> None:
    arguments = dict(model=model, messages=MESSAGES, temperature=0, seed=1, max_completion_tokens=32)
    with client.chat.completions.stream(**arguments) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == text, final


def check_completion(client: openai.OpenAI, model: str) -> None:
    arguments = dict(model=model, prompt="Once upon a time >", temperature=0, max_tokens=8)
    whole = client.completions.create(**arguments)
    streamed = "".join(chunk.choices[0].text for chunk in client.completions.create(**arguments, stream=True))
    assert whole.object == "text_completion" and whole.choices[0].text == streamed, (whole, streamed)


def check_errors(client: openai.OpenAI, model: str) -> None:
    try:
        client.chat.completions.create(model="no-such-model", messages=MESSAGES)
        raise AssertionError("an unknown model was accepted")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found" and error.param == "model", error
    try:
        client.chat.completions.create(model=model, messages=MESSAGES, n=2)
        raise AssertionError("n=2 was accepted")
    except openai.BadRequestError as error:
        assert error.param == "n" and error.type == "invalid_request_error", error


def main() -> None:
    base_url = sys.argv[1]
    key = sys.argv[2] if len(sys.argv) > 2 else "none"
    client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=60)
    model = check_models(client)
    text = check_chat(client, model)
    check_stream(client, model, text)
    check_stream_helper(client, model, text)
    check_completion(client, model)
    check_errors(client, model)
    print(f"openai {openai.__version__}: all checks passed against {base_url} (model {model})")


if __name__ == "__main__":
    main()
