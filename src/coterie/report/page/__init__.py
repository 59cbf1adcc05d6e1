"""Records as one HTML file that needs no network.

Pictures are plain HTML and SVG made here: bars are buttons, the heat map is a table, so a screen
reader gets the same numbers, and a plotting library would weigh more than the whole page.

`build.page` puts it together. `elements` makes and escapes HTML, `plot` draws points; every other
module is a part of the page, in this order: `opening` (with `standing`: shall I use it?), `stack`,
`front` (with `costs` and `predict`, which `assets/page.js` computes again), `search`, `sparse`,
`after`, `at_bytes`; `comparison` with its pictures stands for itself.
"""
