"""Run GGUF files in llama.cpp by xllamacpp: python in_llama_cpp.py JOBS.json.

See `benchmarks/runtimes.py`. The binding hands out the likeliest tokens alone, so the loss of a
chunk is read token by token: the log-probability of the next one among all.
"""

import json
import sys
import urllib.request
from pathlib import Path


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
    """Greedy tokens with log-probabilities, and the loss on the first tokens of chunks."""
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


def main():
    """Every job, one after the other; one that fails says so."""
    import xllamacpp

    asked = json.loads(Path(sys.argv[1]).read_text())
    version = f"{xllamacpp.__version__}"
    for job in asked["jobs"]:
        # A file that makes the library abort takes the process with it: said beforehand.
        out = Path(job["out"])
        out.write_text(json.dumps({"version": version, "refused": "the process ended"}))
        try:
            found = run(job["path"], asked)
        except Exception as error:
            found = {"refused": f"{type(error).__name__}: {(str(error) or '-').splitlines()[0]}"}
        out.write_text(json.dumps({"version": version, **found}))


if __name__ == "__main__":
    main()
