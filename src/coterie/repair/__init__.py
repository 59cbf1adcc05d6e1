"""After a cut the layers that stay are refitted, in closed form, to stand in for those that went.

One file a method: `scalar`, `map`, `down`, `both`, `progressive`; `table` lists them. All of them
end in weights that the checkpoint has anyway, so that it loads everywhere and runs no slower.
`walk` takes texts through the model twice, as it was and as it is kept; `place` is a kept layer on
its turn; `parts` finds the maps that write to the state; `least_squares` fits them from sums.
`choose` holds what came out against the cut as it was.
"""
