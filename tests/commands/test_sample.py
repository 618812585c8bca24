"""`mlcli sample` with files of generators whose class names are no names of folders."""

from pathlib import Path

import pytest

from mlcli.io.files import LONGEST_NAME, file_name
from mlcli.methods.generation.sampling import SAMPLER
from mlcli.networks.dcgan import Generator
from mlcli.training import run_folder
from tests.cli import mlcli


def generator(folder: Path, *classes: str) -> Path:
    network = Generator(16, 1, 4, 2, len(classes))
    description = {"kind": SAMPLER.name, "options": network.options, "classes": list(classes)}
    run_folder.save_tensors(folder / "model.safetensors", network.state_dict(), description)
    return folder


@pytest.mark.parametrize(
    "name", ["../../outside", "..", ".", "", "a/b", "/tmp/outside", "a\0b", "x" * 300, "\n", "é" * 200, ".hidden", "~"]
)
def test_a_class_never_leads_out_of_the_folder(name, tmp_path):
    run, output = generator(tmp_path / "run", "plain", name), tmp_path / "a" / "b" / "out"
    mlcli("sample", run, "-n", 4, "-o", output)
    files = sorted(file.relative_to(tmp_path) for file in tmp_path.rglob("*.png"))
    assert len(files) == 4 and all(file.parts[:3] == ("a", "b", "out") and len(file.parts) == 5 for file in files)
    assert {file.parts[3] for file in files} == {"plain", file_name(name)}


def test_what_stands_outside_is_not_written_over(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "0.png").write_bytes(b"mine")
    mlcli("sample", generator(tmp_path / "run", "../mine", str(tmp_path / "mine")), "-n", 2, "-o", tmp_path / "out")
    assert (tmp_path / "mine" / "0.png").read_bytes() == b"mine" and len(list(tmp_path.rglob("*.png"))) == 3


def test_classes_whose_folders_would_be_one_stay_apart(tmp_path):
    mlcli("sample", generator(tmp_path / "run", "a/b", "a_b", "A_b", "c"), "-n", 4, "-o", tmp_path / "out")
    assert sorted(folder.name for folder in (tmp_path / "out").iterdir()) == ["A_b (2)", "a_b (0)", "a_b (1)", "c"]


def test_names_of_files():
    assert file_name("Staffordshire bullterrier, Staffordshire") == "Staffordshire bullterrier, Staffordshire"
    assert file_name("漢字 é") == "漢字 é" and file_name("\udcff") == "?"
    assert [file_name(name) for name in ("", " ", "..", "a:b\\c", ".x")] == ["_", "_", "__", "a_b_c", "_x"]
    assert len(file_name("é" * 500).encode()) <= LONGEST_NAME
