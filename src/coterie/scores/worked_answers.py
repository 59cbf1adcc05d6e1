"""Tasks with worked answers: a question, the reasoning, the answer; decoded and matched exactly.

As a utility such a task is worth the log-likelihood of its reference solution, which one forward
pass gives; as a score it is what the model really writes, greedily, and whether the answer in it is
the right one (as GSM8K is scored, arXiv:2110.14168).
"""

import re
from collections.abc import Mapping, Sequence

COLUMNS = ("question", "reasoning", "answer")
"""What a row of a local file has."""

NEW_TOKENS = 256
"""Most tokens of an answer that is decoded."""

MARK = "####"
"""What stands before the answer in a worked solution, as GSM8K has it."""

_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{2,3})*,\d{3}|\d+)(?:\.\d+)?|-?\.\d+")
"""A number, its thousands apart or not; 7,8 is two."""

_CURRENCY = str.maketrans({"$": "", "€": "", "£": "", "\N{MINUS SIGN}": "-"})


def definition() -> dict[str, object]:
    """The task of such rows, in the words of lm-evaluation-harness."""
    return {
        "output_type": "generate_until",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_target": "{{reasoning}}\n" + MARK + " {{answer}}",
        "generation_kwargs": {
            "until": ["Question:"],
            "do_sample": False,
            "max_gen_toks": NEW_TOKENS,
        },
        "process_results": exactly,
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }


def exactly(doc: Mapping[str, object], results: Sequence[str]) -> dict[str, float]:
    """Whether the answer that was written is the right one.

    Args:
        doc: The row.
        results: What the model wrote.
    """
    wanted = plain(str(doc["answer"]))
    return {"exact_match": float(answer_in(results[0], wanted) == wanted)}


def answer_in(text: str, wanted: str) -> str:
    """The answer that a text comes to: after the mark, else its last number, else its last line.

    After the mark the first number counts, where one is looked for: units and stars do not matter.

    >>> answer_in("3 and 4 make 7.\\n#### **7** eggs", "7"), answer_in("So it is 1,200.", "1200")
    ('7', '1200')

    Args:
        text: What was written.
        wanted: The right answer, which says whether a number is looked for.
    """
    _, mark, after = text.partition(MARK)
    line = (after.strip().splitlines() or [""])[0]
    if _NUMBER.fullmatch(wanted):
        # A currency may stand between a sign and its number: -$5.
        found = _NUMBER.findall((line if mark else text).translate(_CURRENCY))
        return plain(found[0 if mark else -1]) if found else ""
    if mark:
        return plain(line)
    lines = [line for line in text.splitlines() if line.strip()]
    return plain(lines[-1]) if lines else ""


def plain(answer: str) -> str:
    """An answer without what does not matter: case, spaces, currency, commas in numbers."""
    bare = answer.strip().strip("$€£ ").rstrip(".").strip().lower()
    bare = " ".join(bare.split())
    if not _NUMBER.fullmatch(bare):
        return bare
    number = bare.replace(",", "")
    # 7.00 and 7 are the same answer.
    return f"{float(number):.10g}" if "." in number else str(int(number))
