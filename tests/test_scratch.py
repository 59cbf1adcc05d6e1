"""What a run keeps only meanwhile is gone with it; what a killed run left goes with the next."""

import os
import signal
import subprocess
import sys

import pytest

from coterie.errors import MachineError
from coterie.scratch import Scratch, sweep_dead

pytest.importorskip("fcntl")

HOLDS_ONE = (
    "import sys, time; from pathlib import Path; from coterie.scratch import Scratch;"
    "one = Scratch(Path(sys.argv[1])); (one.path / 'state').write_text('x');"
    "print('made', flush=True); time.sleep(60)"
)


def test_a_folder_that_is_closed_or_forgotten_is_gone(tmp_path):
    with Scratch(tmp_path) as folder:
        assert folder.is_dir() and folder.parent == tmp_path
        (folder / "state").write_text("x")
    made = Scratch(tmp_path)
    del made
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_a_killed_process_is_swept_and_that_of_a_living_one_is_not(tmp_path):
    line = [sys.executable, "-c", HOLDS_ONE, str(tmp_path)]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        (left,) = tmp_path.iterdir()
        with Scratch(tmp_path):
            assert left.is_dir()
        os.kill(process.pid, signal.SIGKILL)
    with Scratch(tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_a_link_under_such_a_name_is_not_followed(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "coterie-scratch-1").symlink_to(tmp_path / "precious")
    sweep_dead(tmp_path)
    assert (tmp_path / "precious").is_dir()


def test_a_place_that_is_not_there_is_told_with_the_way_out(tmp_path):
    with pytest.raises(MachineError, match="set TMPDIR to a folder with room"):
        Scratch(tmp_path / "nowhere")
