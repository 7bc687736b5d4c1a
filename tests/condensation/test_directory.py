"""The run directory: one process at a time, and no leftovers of killed ones."""

from __future__ import annotations

import fcntl
import os

from command_line import TINY, call, refused


def test_a_second_process_is_kept_out(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    handle = os.open(run, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        outcome = call("condense", "--data", "digits", "--out", str(run), *TINY)
    finally:
        os.close(handle)
    refused(outcome, f"another process works on {run}")
    assert list(run.iterdir()) == []
    assert call("condense", "--data", "digits", "--out", str(run), *TINY).code == 0


def test_temporary_files_of_a_killed_process_go_and_others_stay(tmp_path):
    run = tmp_path / "run"
    call("condense", "--data", "digits", "--out", str(run), *TINY, "--steps", "1")
    (run / "condensed.safetensors").unlink()
    left = [run / ".condensed.safetensors.ab12", run / "checkpoint" / ".step-00000001.pt.cd34"]
    mine = [run / ".notes.txt", run / "notes.txt"]
    for path in (*left, *mine):
        path.write_text("x")
    assert call("condense", "--data", "digits", "--out", str(run), *TINY, "--steps", "1").code == 0
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in mine)
