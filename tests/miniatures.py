"""Miniature copies of the paper's zero-shot tasks, in the columns of lm-eval's own data sets."""

ARC = [
    {
        "question": f"Which of these comes after {i}?",
        "choices": {"text": [str(i + 1), str(i - 1), "none"], "label": ["A", "B", "C"]},
        "answerKey": "ABC"[i % 3],
    }
    for i in range(6)
]
ANLI = [
    {"premise": f"Anna has {i} hats.", "hypothesis": "Anna has hats.", "label": i % 3}
    for i in range(6)
]
MINIATURES = {
    "boolq": [
        {"passage": f"A cat has {i} lives.", "question": "is a cat immortal", "label": i % 2}
        for i in range(6)
    ],
    "piqa": [
        {"goal": f"Open {i} jars.", "sol1": "Turn the lids.", "sol2": "Sing.", "label": i % 2}
        for i in range(6)
    ],
    "hellaswag": [
        {
            "activity_label": "Sailing",
            "ctx_a": f"A crew of {i} sets out.",
            "ctx_b": "they",
            "endings": ["raise the sail.", "eat the mast.", "are a lake.", "blue."],
            "label": str(i % 4),
        }
        for i in range(6)
    ],
    "winogrande": [
        {
            "sentence": f"Tom gave Ben {i} coins because _ was generous.",
            "option1": "Tom",
            "option2": "Ben",
            "answer": str(1 + i % 2),
        }
        for i in range(6)
    ],
    "arc_easy": ARC,
    "arc_challenge": ARC,
    "openbookqa": [
        {"question_stem": row["question"], "choices": row["choices"], "answerKey": row["answerKey"]}
        for row in ARC
    ],
    "anli_r1": ANLI,
    "anli_r2": ANLI,
    "anli_r3": ANLI,
}
