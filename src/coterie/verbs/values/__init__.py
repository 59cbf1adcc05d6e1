"""`values`: what every player contributes, without a cut."""
