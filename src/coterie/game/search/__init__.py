"""Which coalition to keep: searches that propose coalitions and read values back.

methods     the table: every search method by name, with its cost and its play
task        what a method is asked, and what it gives back
ledger      asks a game, remembers, counts the cost
plain       by rank, one-shot, greedy, contiguous, by swaps, exhaustive
race        the best of many candidates, few texts first; safely, where it must not err
evolve      evolution by level switches
climb       climbing on a pairwise model
baselines   the plain answers that guided search begins with
learner     what guided search knows by now: a process that grows with the ledger
guided      a Gaussian process says where to look
ceiling     players of unequal cost: what may be kept, and exchanges below it
exchange    the same guidance below a ceiling, from answers known to be good
decide      the last word between finalists, on more texts
"""
