"""Records as one HTML file that needs no network.

Pictures are plain HTML and SVG made here: bars are buttons, the heat map is a table, so a screen
reader gets the same numbers, and a plotting library would weigh more than the whole page.
"""
