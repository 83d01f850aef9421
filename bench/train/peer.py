"""Trains with PyTorch as its users do, and prints one line of JSON: seconds of every step, tokens, peak memory."""

import argparse
import json
import resource
import time

import torch


def smollm2_135m():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=49152,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        rope_theta=100000.0,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config)


def step(tokens, samples, steps, lora_r):
    """Forward, backward, clipping and AdamW on random tokens, all of which carry loss."""
    model = smollm2_135m()
    if lora_r:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(
            model, LoraConfig(r=lora_r, lora_alpha=2 * lora_r, target_modules="all-linear", task_type="CAUSAL_LM")
        )
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.1)
    ids = torch.randint(0, 49152, (samples, tokens // samples))
    seconds = []
    for _ in range(steps + 1):
        started = time.perf_counter()
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - started)
    return {"step_seconds": seconds[1:], "tokens": tokens}


def sft(model, data, steps, batch, length, best):
    """TRL's trainer on chat data with loss on the answers: its defaults, or packing without recomputation."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    rows = [json.loads(line)["messages"] for line in open(data)]
    rows = [{"prompt": messages[:-1], "completion": messages[-1:]} for messages in rows]
    seconds, counts = [], []

    class Timed(SFTTrainer):
        def compute_loss(self, model, inputs, *args, **kwargs):
            counts.append((int((inputs["labels"] != -100).sum()), int(inputs["labels"].numel())))
            return super().compute_loss(model, inputs, *args, **kwargs)

    class Clock(TrainerCallback):
        def on_step_begin(self, *args, **kwargs):
            self.started = time.perf_counter()

        def on_step_end(self, *args, **kwargs):
            seconds.append(time.perf_counter() - self.started)

    settings = dict(packing=True, gradient_checkpointing=False, per_device_train_batch_size=1) if best else {}
    settings.setdefault("per_device_train_batch_size", batch)
    config = SFTConfig(
        output_dir="/tmp/nexa-bench-trl",
        max_steps=steps + 1,
        max_length=length,
        use_cpu=True,
        bf16=False,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        seed=0,
        **settings,
    )
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    trainer = Timed(
        model=loaded,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=[Clock()],
    )
    trainer.train()
    per_step = [counts[index] for index in range(1, len(seconds))]
    return {
        "step_seconds": seconds[1:],
        "trained_tokens": sum(trained for trained, _ in per_step),
        "computed_tokens": sum(computed for _, computed in per_step),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=["step", "sft"])
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--lora-r", type=int, default=0)
    parser.add_argument("--model")
    parser.add_argument("--data")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--best", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.case == "step":
        result = step(arguments.tokens, arguments.samples, arguments.steps, arguments.lora_r)
    else:
        result = sft(
            arguments.model, arguments.data, arguments.steps, arguments.batch, arguments.length, arguments.best
        )
    result["peak_memory_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(result))


if __name__ == "__main__":
    main()
