#!/usr/bin/env bash
# An evening with a real model, from the first look to a file that llama.cpp reads; every step is bounded.
#
#   tools/evening.sh MODEL_DIR TEXT_FILE OUT_DIR [--remove N]
#
# COTERIE is how the command is called, PYTHON the interpreter beside it, CONVERTER the converter of llama.cpp and ENVIRONMENT a Python with
# xllamacpp (without them nothing is converted), TIME bounds the search, TEXTS says how much text chooses, HEAL how much heals, STEP is the
# most seconds of one step.
set -uo pipefail

model=$1 text=$2 out=$3
shift 3
amount=("$@")
[ "$#" -gt 0 ] || amount=(--remove 8)
coterie=${COTERIE:-coterie} time=${TIME:-3m} step=${STEP:-240}
read -ra texts <<<"${TEXTS:-}"
read -ra healing <<<"${HEAL:---steps 10 --batch 8}"
mkdir -p "$out"
export COTERIE_STORE="$out/store.sqlite"

# Seconds of the processor that all steps have taken so far, told by the shell itself.
processor() {
    times >"$out/times"
    spent=$(awk 'NR == 2 { for (i = 1; i <= 2; i++) { split($i, t, /[ms]/); s += 60 * t[1] + t[2] } printf "%.0f", s }' "$out/times")
}

say() { printf '\n## %s\n' "$*"; }

run() {
    local shown="$*"
    shown=${shown//"$coterie"/coterie}
    shown=${shown//"$model"/MODEL}
    shown=${shown//"$text"/TEXT}
    shown=${shown//"${PYTHON:-python3}"/python}
    shown=${shown//"${CONVERTER:-CONVERTER}"/CONVERTER}
    shown=${shown//"${ENVIRONMENT:-ENVIRONMENT}"/ENVIRONMENT}
    printf '\n    $ %s\n\n' "${shown//"$out/"/}"
    local began=$SECONDS code=0 before
    processor
    before=$spent
    (cd "$out" && timeout "$step" "$@") 2>&1 | tail -n "${LINES_SHOWN:-40}" |
        grep -vE "Failed to load .*torchao|_pytree.py|Loading weights|Writing model shards" |
        sed "s#$model#MODEL#g; s#$text#TEXT#g; s#$out/##g; s#/[^ ]*/site-packages/##g; s/^/    /"
    code=${PIPESTATUS[0]}
    processor
    printf '\n(exit %s after %s s, %s s of the processor)\n' "$code" "$((SECONDS - began))" "$((spent - before))"
    return "$code"
}

say "Look"
run $coterie inspect "$model"
say "Plan"
run $coterie prune "$model" "${amount[@]}" "${texts[@]}" --calibration "$text" --time "$time" --output small --dry-run
say "Cut"
run $coterie prune "$model" "${amount[@]}" "${texts[@]}" --calibration "$text" --time "$time" --output small || exit 1
say "Ask it three questions"
cat >"$out/ask.py" <<'PYTHON'
import sys

from transformers import AutoModelForCausalLM, AutoTokenizer

model, words = AutoModelForCausalLM.from_pretrained(sys.argv[1]), AutoTokenizer.from_pretrained(sys.argv[1])
for question in ("The capital of France is", "Water boils at", "Once upon a time"):
    asked = words(question, return_tensors="pt")
    told = model.generate(**asked, max_new_tokens=12, do_sample=False, pad_token_id=0)
    print(" ".join(words.decode(told[0]).split()))
PYTHON
run "${PYTHON:-python3}" ask.py small
say "Heal, with no more words than the folder"
run $coterie heal small "${healing[@]}" --output healed
last=small
[ -d "$out/healed" ] && last=healed
say "Eight bits"
run $coterie quantize "$last" --scheme int8 --output int8
say "As judged: the figures of the reports, once more"
for folder in small healed int8; do
    [ -d "$out/$folder" ] && run $coterie evaluate "$folder" --as-judged
done
say "Card and metadata are those of the files"
for folder in small healed int8; do
    [ -d "$out/$folder" ] && run $coterie push "$folder" me/small --dry-run
done
say "Take it elsewhere"
llama=(--to gguf)
[ -z "${CONVERTER:-}" ] || llama+=(--converter "$CONVERTER" --output model.gguf)
[ -z "${ENVIRONMENT:-}" ] || llama+=(--environment "$ENVIRONMENT")
run $coterie export "$last" "${llama[@]}"
exit 0
