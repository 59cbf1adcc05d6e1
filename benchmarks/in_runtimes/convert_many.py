"""Convert many checkpoints in one process: python convert_many.py CONVERTER JOBS.json.

JOBS.json is a list of [folder, file, pre]: pre names the splitting of text where the converter
does not know the tokenizer, and is null elsewhere. A file that fails has its reason beside it, in
a file whose name ends in .refused.
"""

import json
import runpy
import sys
from pathlib import Path

from coterie.verbs.export import gguf_script


def main() -> None:
    """Every job, one after the other."""
    converter = Path(sys.argv[1])
    sys.path[:0] = [str(converter.parent), str(converter.parent / "gguf-py")]
    jobs = json.loads(Path(sys.argv[2]).read_text())
    patched = None
    for folder, file, pre in jobs:
        if pre != patched or patched is None:
            gguf_script.patch(pre)
            patched = pre
        sys.argv = [str(converter), folder, "--outfile", file, "--outtype", "f32"]
        try:
            runpy.run_path(str(converter), run_name="__main__")
        except (Exception, SystemExit) as error:
            said = (str(error) or type(error).__name__).splitlines()[0]
            Path(f"{file}.refused").write_text(f"converter: {type(error).__name__}: {said[:160]}")


if __name__ == "__main__":
    main()
