"""The left tower stands on numpy and scipy alone."""

import subprocess
import sys

SCRIPT = """
import importlib, pkgutil, sys


class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers"):
            raise ImportError(f"the left tower asked for {name}")


sys.meta_path.insert(0, Refuse())
import coterie.errors, coterie.game
for module in pkgutil.walk_packages(coterie.game.__path__, "coterie.game."):
    importlib.import_module(module.name)
print("ok")
"""


def test_games_are_played_without_torch_or_transformers():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.stdout.strip() == "ok", done.stderr
