"""A finished record as terminal tables, model card and figure. Computes nothing.

A record is what `coterie.json` holds (`record.py`). Every printer only formats what stands in it,
so a report can be printed again from the file alone.
"""
