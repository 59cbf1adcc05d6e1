"""`prune`: choose, cut, write, prove, judge."""
