"""Language models and their layers, with torch and transformers.

Finds the layers of a model (`loaded`, `families`), runs it without some of them
(`loaded.routing`), removes them for good (`cutting`), and checks that what was written is what was
measured (`cutting.verify`). It knows layers, not values: nothing here decides which layer to cut.
"""
