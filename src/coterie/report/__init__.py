"""A finished record as terminal tables, model card and figure. Computes nothing.

A record is what `coterie.json` holds: plain JSON, complete, with its provenance. Every printer here
only formats what stands in it, so a report can be printed again from the file alone.
"""

from coterie.store import Json

Record = dict[str, Json]
"""A whole report as plain JSON; the keys are listed in `coterie.pipeline.record`."""
