"""A model taken apart: its layers, its head, and what is read off them."""
