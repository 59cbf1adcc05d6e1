#!/usr/bin/env bash
# An evening with a real model, from the first look to a file that llama.cpp reads; every step is bounded.
#
#   tools/evening.sh MODEL_DIR TEXT_FILE OUT_DIR [--remove N]
#
# COTERIE is how the command is called, PYTHON the interpreter beside it, CONVERT the converter of llama.cpp (left out where it is empty),
# TIME bounds the search, TEXTS says how much text chooses, STEP is the most seconds of one step.
set -uo pipefail

model=$1 text=$2 out=$3
shift 3
amount=("$@")
[ "$#" -gt 0 ] || amount=(--remove 8)
coterie=${COTERIE:-coterie} time=${TIME:-3m} step=${STEP:-240}
read -ra texts <<<"${TEXTS:-}"
mkdir -p "$out"
export COTERIE_STORE="$out/store.sqlite"

say() { printf '\n## %s\n' "$*"; }

run() {
    local shown="$*"
    shown=${shown//"$coterie"/coterie}
    shown=${shown//"$model"/MODEL}
    shown=${shown//"$text"/TEXT}
    printf '\n    $ %s\n\n' "${shown//"$out/"/}"
    local began=$SECONDS code=0
    (cd "$out" && timeout "$step" "$@") 2>&1 | tail -n "${LINES_SHOWN:-40}" |
        sed "s#$model#MODEL#g; s#$text#TEXT#g; s#$out/##g; s/^/    /"
    code=${PIPESTATUS[0]}
    printf '\n(exit %s after %s s)\n' "$code" "$((SECONDS - began))"
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
run $coterie heal small --steps "${HEAL_STEPS:-10}" --batch 2 --mode full --output healed
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
run $coterie export "$last" --to gguf
[ -n "${CONVERT:-}" ] && run "${PYTHON:-python3}" "$CONVERT" "$last" --outfile model.gguf
exit 0
