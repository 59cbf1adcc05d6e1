"""Records as one HTML file that needs no network.

Pictures of points are drawn by matplotlib, and `page.css` gives them their looks; their numbers
stand in tables. Bars are buttons and the heat map is a table, so a screen reader gets the same.

`build.page` puts it together. `elements` makes and escapes HTML, `plot` takes what was drawn into
the page; every other module is a part of it, in this order: `opening` (with `standing`: shall I use
it?), `stack`, `front` (with `costs` and `predict`, which `assets/page.js` computes again),
`search`, `sparse`, `after`, `at_bytes`; `comparison` with its pictures stands for itself.
"""
