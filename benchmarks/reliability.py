"""A campaign that looks for faults: runs killed, starved and refused, files mutated, writers.

    python benchmarks/reliability.py --sections kills fuzz --count 40

Every trial is drawn from its number alone and kept as one line of JSON, so that a campaign that was
stopped goes on, and a trial that failed is repeated by its number (--only kills:17; of a batch of
mutations the smallest that fails is looked for). Printed is what was tried and what held; every
line that did not hold is printed whole. A trial of `fuzz` is a batch of fifty mutations.
"""

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from pathlib import Path

# Before torch and tokenizers are read: what is forked must have one thread.
os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")

from trials import fuzz, kills, machine, security, stores
from trials.home import Home
from trials.trial import Section

SECTIONS: dict[str, Section] = {
    "kills": kills.kill,
    "disk": machine.disk,
    "refusals": machine.refusals,
    "vanishing": machine.vanishing,
    "rights": machine.rights,
    "memory": machine.memory,
    "clocks": machine.clocks,
    "writers": stores.writers,
    "stores": stores.stores,
    "security": security.security,
    "offline": security.offline,
    "fuzz": fuzz.fuzz,
}
COUNTS = {"kills": 100, "disk": 120, "refusals": 120, "vanishing": 60, "rights": 54, "memory": 80,
          "clocks": 6, "writers": 20, "stores": 20, "security": len(security.ATTACKS),
          "offline": 6, "fuzz": 40}  # fmt: skip


def main() -> None:
    """Run the trials that are not known yet, and print the figures of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sections", nargs="+", default=list(SECTIONS), choices=list(SECTIONS))
    parser.add_argument("--count", type=int, help="trials of each section; each has its own number")
    parser.add_argument("--only", help="one trial, as SECTION:NUMBER, told in full")
    parser.add_argument("--log", type=Path, default=Path("reliability.jsonl"))
    parser.add_argument("--seconds", type=float, help="stop beginning trials after so long")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        # A user who owns nothing must be able to look in.
        Path(folder).chmod(0o755)
        home = Home(Path(folder))
        if asked.only:
            _only(home, asked.only)
            return
        began = time.monotonic()
        for section in asked.sections:
            left = None if asked.seconds is None else began + asked.seconds
            campaign(section, home, asked.count or COUNTS[section], asked.log, left)


def campaign(section: str, home: Home, count: int, log: Path, until: float | None) -> None:
    """The trials of one section: those that a log knows, and those that are still to be made."""
    known = {}
    if log.is_file():
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        known = {one["number"]: one for one in lines if one["section"] == section}
    for number in range(count):
        if number in known or (until is not None and time.monotonic() > until):
            continue
        known[number] = {"section": section, "number": number, **SECTIONS[section](home, number)}
        with log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(known[number]) + "\n")
    tell(section, [one for number, one in sorted(known.items()) if number < count])


def tell(section: str, done: list[dict[str, object]]) -> None:
    """What was tried, how it ended, and what did not hold."""
    held = sum(not one["faults"] for one in done)
    extra = [f"{sum(int(str(one.get(what, 0))) for one in done)} {what}"
             for what in ("examples", "kills") if any(what in one for one in done)]  # fmt: skip
    print(": ".join([section, ", ".join([f"{held} of {len(done)} trials held", *extra])]))
    ends = Counter(f"{one['what']}, exit {one.get('exit')}" for one in done)
    for one in done:
        for end, times in dict(one.get("ends") or {}).items():  # type: ignore[call-overload]
            ends[f"a mutation, {end}"] += times
    for end, times in sorted(ends.items()):
        print(f"    {times:4} x {end}")
    for one in done:
        if one["faults"]:
            print("    FAULT", json.dumps(one))


def _only(home: Home, asked: str) -> None:
    section, _, number = asked.partition(":")
    if section == "fuzz":
        fuzz.smallest(home, int(number))
    print(json.dumps(SECTIONS[section](home, int(number)), indent=2))


if __name__ == "__main__":
    main()
