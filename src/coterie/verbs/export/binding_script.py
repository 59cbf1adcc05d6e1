"""What llama.cpp makes of a GGUF file; run in a Python that has a binding, without Coterie.

    python binding_script.py FILE.gguf PROMPTS.json OUT.json

PROMPTS.json holds lists of token ids and how many tokens to add: {"prompts": [[1, 2]], "new": 20}.
OUT.json gets the tokens that are likeliest one after the other, their log-probabilities, and the
binding's version. One thread, states in float32, no flash attention.
"""

import json
import sys
import urllib.request


def main() -> None:
    """Load, continue, write."""
    file, prompts, out = sys.argv[1:4]
    with open(prompts, encoding="utf-8") as content:  # noqa: PTH123
        asked = json.load(content)
    import xllamacpp as binding

    params = binding.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.warmup = file, 512, 1, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_type_k = params.cache_type_v = binding.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = binding.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = binding.Server(params)
    found = [_continued(server, ids, asked["new"]) for ids in asked["prompts"]]
    answer = {"version": f"xllamacpp {binding.__version__}", "generated": found}
    with open(out, "w", encoding="utf-8") as place:  # noqa: PTH123
        json.dump(answer, place)


def _continued(server: object, ids: list[int], new: int) -> dict[str, list[float]]:
    asked = {
        "prompt": ids,
        "n_predict": new,
        "temperature": 0,
        "ignore_eos": True,
        "n_probs": 1,
        "return_tokens": True,
        "cache_prompt": False,
        "samplers": ["temperature"],
    }
    address = f"{server.listening_address}/completion"  # type: ignore[attr-defined]
    question = urllib.request.Request(
        address, json.dumps(asked).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(question) as reply:
        answer = json.load(reply)
    return {
        "tokens": answer["tokens"],
        "logprobs": [one["logprob"] for one in answer["completion_probabilities"]],
    }


if __name__ == "__main__":
    main()
