"""Runs killed with `kill -9`, then run again: nothing is lost, doubled or left."""

import random
import tempfile
import time
from pathlib import Path

from .acts import at_change, killed
from .commands import forked, run, run_apart
from .home import Home, answer, doubled, leftovers, listing, same
from .trial import Trial

_KILLED = ("prune", "sparsify", "heal", "quantize", "compare")
# A store keeps free pages, and a run that was killed may have asked for more.
_SLACK = 200_000


def kill(home: Home, number: int) -> Trial:
    """One run killed one to three times, by the clock or at a change of a file; then let end."""
    rng = random.Random(f"kill {number}")
    verb = _KILLED[number % 5]
    plain = home.plain(verb)
    with tempfile.TemporaryDirectory(dir=home.folder) as folder:
        place = Path(folder) / "place"
        place.mkdir()
        line, moments, kills = home.line(verb, place / "out"), [], 0
        for _ in range(rng.randint(1, 3)):
            if rng.random() < 0.6:
                at = rng.randrange(plain.n_changes)
                moments.append(f"change {at} of {plain.n_changes}")
                kills += forked(line, place, at_change(at, place, killed)).end().code == -9
            else:
                share = rng.uniform(0.05, 1.0)
                moments.append(f"{share:.0%} of its time")
                begun = forked(line, place)
                time.sleep(share * plain.ended.waited)
                begun.kill()
                kills += begun.end().code == -9
        # Now and then as a user runs it, in a Python of its own.
        ended = (run_apart if number % 20 == 7 else run)(line, place)
        faults = ended.faults((0,))
        if ended.code == 0 and not same(answer(place / "out"), plain.answer):
            faults.append("another answer")
        faults += leftovers(place) + doubled(place / "store.sqlite")
        names, n_bytes = listing(place)
        if more := sorted(names - plain.names):
            faults.append(f"files that an undisturbed run does not leave: {more}")
        if n_bytes > plain.n_bytes + _SLACK:
            faults.append(f"{n_bytes - plain.n_bytes:,} bytes more than an undisturbed run")
    return {"what": f"{verb} killed", "kills": kills, "moments": moments, "exit": ended.code,
            "faults": faults, "said": ended.said.strip()[-300:]}  # fmt: skip
