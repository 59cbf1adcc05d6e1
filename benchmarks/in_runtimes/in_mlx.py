"""Run checkpoints in mlx-lm: python in_mlx.py JOBS.json (see `benchmarks/runtimes.py`)."""

from importlib.metadata import version
from pathlib import Path

from jobs import every_job


def run(folder, asked):
    """Greedy tokens with log-probabilities, and the loss on chunks, all in float32."""
    import mlx.core as mx
    from mlx.utils import tree_map
    from mlx_lm.utils import load_model

    model, _ = load_model(Path(folder))
    floats = (mx.bfloat16, mx.float16)
    widened = tree_map(
        lambda one: one.astype(mx.float32) if one.dtype in floats else one, model.parameters()
    )
    model.update(widened)

    def logprobs(ids):
        logits = model(mx.array([ids]))[0].astype(mx.float32)
        return logits - mx.logsumexp(logits, axis=-1, keepdims=True)

    generated = []
    for prompt in asked["prompts"]:
        ids, told = list(prompt), []
        for _ in range(asked["new"]):
            last = logprobs(ids)[-1]
            token = int(mx.argmax(last))
            told.append(float(last[token]))
            ids.append(token)
        generated.append({"tokens": ids[len(prompt) :], "logprobs": told})
    losses = []
    for ids in asked["chunks"]:
        found = logprobs(ids)[:-1]
        picked = mx.take_along_axis(found, mx.array(ids[1:])[:, None], axis=-1)
        losses.append(-float(picked.mean()))
    return {"generated": generated, "losses": losses}


if __name__ == "__main__":
    every_job(run, version("mlx-lm"))
