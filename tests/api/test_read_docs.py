"""`mlcli.read_docs` as a notebook calls it, against what the command prints."""

import pytest

import mlcli
from mlcli.api import read_docs as module
from mlcli.errors import UsageError
from tests.cli import mlcli as command


def test_a_page_is_that_of_the_command():
    (page,) = mlcli.read_docs("train").pages
    assert (page.name, page.guide) == ("train", False) and page.text == command("docs", "train").stdout
    (page,) = mlcli.read_docs("several-gpus").pages
    assert page.guide
    with pytest.raises(UsageError, match="trian: no such page; did you mean train"):
        mlcli.read_docs("trian")


def test_all_pages_come_with_their_first_sentences():
    found = mlcli.read_docs().as_json()
    assert [entry["guide"] for entry in found] == sorted(entry["guide"] for entry in found)
    for entry in found:
        summary = entry["summary"]
        assert summary.endswith(".") and "\n" not in summary and "](" not in summary and len(summary) <= 140, summary
        assert entry["guide"] or summary.split()[0].endswith("s"), "what the command does"


def test_a_sentence_ends_before_the_next_one():
    page = module.Page("x", False, "# mlcli x\n\nPaints 1.5 images,\nas in A. It ends.\n\n## Papers\n")
    assert page.summary == "Paints 1.5 images, as in A."
