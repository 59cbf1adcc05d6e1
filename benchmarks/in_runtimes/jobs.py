"""The jobs of one runtime, in the environment that has it: see `benchmarks/runtimes.py`."""

import json
import signal
import sys
from pathlib import Path


def every_job(run, version):
    """Every job of the file that is named, one after the other; one that fails says so.

    Args:
        run: From the path of a checkpoint and what is asked to what was found, plain data.
        version: Of the runtime.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    asked = json.loads(Path(sys.argv[1]).read_text())
    for job in asked["jobs"]:
        # A file that makes a library abort takes the process with it: said beforehand.
        out = Path(job["out"])
        out.write_text(json.dumps({"version": version, "refused": "the process ended"}))
        try:
            found = run(job["path"], job.get("asked", asked))
        except (KeyboardInterrupt, SystemExit):
            out.unlink()  # stopped, which is no answer
            raise
        except Exception as error:
            told = (str(error) or "-").splitlines()[0][:200]
            found = {"refused": f"{type(error).__name__}: {told}"}
        out.write_text(json.dumps({"version": version, **found}))
