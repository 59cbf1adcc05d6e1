"""Run checkpoints in transformers: python in_transformers.py JOBS.json; see `runtimes.py`."""

from jobs import every_job


def run(folder, asked):
    """Greedy tokens with log-probabilities, and the loss on chunks, in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=True
    ).eval()
    generated, losses = [], []
    with torch.inference_mode():
        for prompt in asked["prompts"]:
            ids, told, ahead = torch.tensor([prompt]), [], []
            for _ in range(asked["new"]):
                last = torch.log_softmax(model(ids, use_cache=False).logits[0, -1].float(), -1)
                values, tokens = last.topk(2)
                told.append(float(values[0]))
                ahead.append(float(values[0] - values[1]))
                ids = torch.cat([ids, tokens[None, :1]], dim=1)
            tokens = ids[0, len(prompt) :].tolist()
            generated.append({"tokens": tokens, "logprobs": told, "ahead": ahead})
        for chunk in asked["chunks"]:
            ids = torch.tensor([chunk])
            logits = model(ids, use_cache=False).logits[0, :-1].float()
            losses.append(float(torch.nn.functional.cross_entropy(logits, ids[0, 1:])))
    return {"generated": generated, "losses": losses}


if __name__ == "__main__":
    import transformers

    every_job(run, transformers.__version__)
