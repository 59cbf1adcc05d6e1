"""Run GGUF files in llama.cpp by xllamacpp: python in_llama_cpp.py JOBS.json.

See `benchmarks/runtimes.py`. The binding hands out the likeliest tokens alone, so that there is no
loss of a chunk.
"""

import json
import urllib.request

from jobs import every_job


def answered(server, **asked):
    """What the server completes; plain JSON."""
    asked = {"temperature": 0, "samplers": ["temperature"], **asked}
    question = urllib.request.Request(
        f"{server.listening_address}/completion",
        json.dumps(asked).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(question) as reply:
        return json.load(reply)


def run(file, asked):
    """Greedy tokens with log-probabilities."""
    import xllamacpp as x

    params = x.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.warmup = file, 256, 1, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_type_k = params.cache_type_v = x.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = x.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = x.Server(params)
    generated = []
    for ids in asked["prompts"]:
        told = answered(
            server, prompt=ids, n_predict=asked["new"], ignore_eos=True, n_probs=1,
            return_tokens=True, cache_prompt=False,
        )  # fmt: skip
        logprobs = [one["logprob"] for one in told["completion_probabilities"]]
        generated.append({"tokens": told["tokens"], "logprobs": logprobs})
    return {"generated": generated}


if __name__ == "__main__":
    import xllamacpp

    every_job(run, xllamacpp.__version__)
