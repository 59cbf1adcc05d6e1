"""The right tower: language models and their layers, with torch and transformers.

Finds the layers of a model (`stack`, `families`), runs it without some of them (`routing`), cuts
them out for good (`surgery`), and checks that what was written is what was measured (`safety`). It
knows layers, not values: nothing here decides which layer to cut.
"""
