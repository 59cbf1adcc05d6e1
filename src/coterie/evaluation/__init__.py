"""A model and texts become a value function, and a verdict."""
