"""Run checkpoints in vLLM on a CPU: python in_vllm.py JOBS.json (see `benchmarks/runtimes.py`)."""

import gc
import os

from jobs import every_job

os.environ |= {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
}


def run(folder, asked):
    """Greedy tokens with log-probabilities, and the loss on chunks."""
    from vllm import LLM, SamplingParams
    from vllm.distributed import cleanup_dist_env_and_memory
    from vllm.inputs import TokensPrompt

    # The engine of the checkpoint before, and its groups: a model of experts needs one more.
    gc.collect()
    cleanup_dist_env_and_memory()
    model = LLM(
        model=folder, enforce_eager=True, max_model_len=160, max_num_seqs=4, dtype="float32",
        trust_remote_code=True, seed=0, enable_prefix_caching=False,
    )  # fmt: skip
    greedy = SamplingParams(temperature=0, max_tokens=asked["new"], ignore_eos=True, logprobs=1)
    prompts = [TokensPrompt(prompt_token_ids=ids) for ids in asked["prompts"]]
    generated = []
    for one in model.generate(prompts, greedy):
        answer = one.outputs[0]
        pairs = zip(answer.token_ids, answer.logprobs, strict=True)
        logprobs = [told[token].logprob for token, told in pairs]
        generated.append({"tokens": list(answer.token_ids), "logprobs": logprobs})
    reading = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0)
    losses = []
    chunks = [TokensPrompt(prompt_token_ids=ids) for ids in asked["chunks"]]
    for one, ids in zip(model.generate(chunks, reading), asked["chunks"], strict=True):
        told = [d[t].logprob for t, d in zip(ids[1:], one.prompt_logprobs[1:], strict=True)]
        losses.append(-sum(told) / len(told))
    return {"generated": generated, "losses": losses}


def look_here():
    """Let vLLM look at a model's class in this process: without a GPU it needs none of its own."""
    from vllm.model_executor.models import registry

    registry._run_in_subprocess = lambda look: look()


if __name__ == "__main__":
    import vllm

    look_here()
    every_job(run, vllm.__version__)
