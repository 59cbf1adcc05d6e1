"""The options of all verbs, each declared once: its name, its help, its form and its bounds.

A group is a frozen dataclass of a few options that belong together; the request of a verb inherits
the groups it takes. Fields stand in the order of the bases read from the last to the first. The
annotation of a field is all there is to its option: the command line, the help, the check of its
bounds, the record and the rebuilt command line are made from it.
"""
