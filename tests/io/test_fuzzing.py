"""Damaged images of every format, in small; tests/benchmarks/fuzz_images.py does it at full size."""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import fuzzing

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")

CAT = Path(__file__).parents[2] / "samples/photos/cat.jpg"


@pytest.mark.parametrize("seed", range(2))
def test_damaged_images_are_read_or_refused(tmp_path, seed):
    before, watch = fuzzing.held(), fuzzing.Watch()
    outcomes = {"tensor": 0, "error": 0}
    for name, data in fuzzing.files(tmp_path / "whole", 260, seed):
        done = fuzzing.trial(name, data, tmp_path)
        assert done["outcome"] in outcomes and done["seconds"] < fuzzing.SECONDS, (name, done)
        outcomes[done["outcome"]] += 1
    watch.open = False
    assert not watch.programs and watch.memory - before < fuzzing.MEMORY
    assert min(outcomes.values()) > 50  # both happen, else the damage is too light or too heavy


def test_the_watch_sees_programs_and_memory():
    watch = fuzzing.Watch()
    subprocess.run([sys.executable, "-c", ""], check=True)
    kept = np.ones(30_000_000)
    before = watch.memory
    while watch.memory < kept.nbytes and watch.memory == before:
        pass
    watch.open = False
    assert any("subprocess.Popen" in program for program in watch.programs) and watch.memory > kept.nbytes


def test_a_trial_tells_tracebacks_from_errors(tmp_path, monkeypatch):
    whole = CAT.read_bytes()
    assert fuzzing.trial("a.jpg", whole, tmp_path)["outcome"] == "tensor"
    assert fuzzing.trial("a.jpg", whole[:900], tmp_path)["outcome"] == "error"
    monkeypatch.setattr("mlcli.imaging.image_io.read", lambda path: 1 / 0)
    assert "traceback: ZeroDivisionError" in fuzzing.trial("a.jpg", whole, tmp_path)["outcome"]


def test_postscript_starts_no_program(tmp_path):
    """Pillow hands such files to Ghostscript, under whatever ending, also where they lie in another file."""
    watch = fuzzing.Watch()
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    binary = struct.pack("<IIIIIIIH", 0xC6D3D0C5, 30, len(script), 0, 0, 0, 0, 0xFFFF) + script
    for name in ("a.eps", "a.png", "a.jpg", "a.tif", "a.ps"):
        for data in (script, binary):
            assert fuzzing.trial(name, data, tmp_path)["outcome"] == "error"
    watch.open = False
    assert not watch.programs


def test_check_sums_are_mended():
    whole = CAT.read_bytes()
    assert fuzzing.summed(whole) == whole
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s3sI", 3, b"tEXt", b"abc", 0)
    assert fuzzing.summed(data)[-4:] != bytes(4) and fuzzing.summed(fuzzing.summed(data)) == fuzzing.summed(data)
