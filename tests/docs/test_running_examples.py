"""How the examples of pages are found, split into commands, made short, and given what they read."""

import pytest

import mlcli
from mlcli import api
from tests.docs import shortened
from tests.docs.code_blocks import blocks, commands, cron_commands
from tests.docs.tiny_world import named


def test_the_blocks_of_a_page_with_what_they_print(tmp_path):
    page = tmp_path / "page.md"
    parts = ["```sh\na\n```", "```text\nprinted\n```", "```python\nb\n```", "In between.", "```text\nnot printed\n```"]
    page.write_text("\n\n".join([*parts, "```json\n{}\n```", "    indented", "```make\nc:\n\td\n```"]) + "\n")
    found = [(block.number, block.language, block.code, block.printed) for block in blocks(page)]
    assert found == [(1, "sh", "a\n", "printed\n"), (2, "python", "b\n", ""), (3, "make", "c:\n\td\n", "")]


@pytest.mark.parametrize(
    "code, expected",
    [
        ("a\nb\n", ["a\n", "b\n"]),
        ("# comment\n\na \\\n  b\nc |\n  d\n", ["a \\\n  b\n", "c |\n  d\n"]),
        ("for x in a b; do\n  y $x\ndone\nz\n", ["for x in a b; do\n  y $x\ndone\n", "z\n"]),
        ("if a; then b; fi\nc 'd\ne'\n", ["if a; then b; fi\n", "c 'd\ne'\n"]),
        ("cd a\nb\n", ["cd a\nb\n"]),
        ("A=1\nb $A\n", ["A=1\nb $A\n"]),
    ],
)
def test_the_commands_of_a_block(code, expected):
    assert commands(code) == expected


def test_the_commands_of_a_crontab():
    assert cron_commands("# m h\n0 3 * * 1-5  a -o b --quiet\n\n@daily c\n") == ["a -o b --quiet", "c"]


def test_what_takes_the_time_is_given_again():
    short = shortened.command_line
    assert short(["train", "x", "--steps", "900"])[4:6] == ["--steps", "2"]
    assert short(["stylize", "x", "--size=99"])[3:5] == ["--size", "32"]
    assert short(["stylize", "x", "--scales", "9,99"])[4:6] == ["--scales", "32"]
    assert "--filters" in short(["adapt", "--method", "seuda"]) and "--filters" not in short(
        ["adapt", "--method", "adda"]
    )
    for whole in (["siamese-train", "x", "--loss", "fisher"], ["train", "--help"], [], ["models"]):
        assert short(whole) == whole


def test_the_same_of_functions():
    assert shortened.call(mlcli.train, {"epochs": 9})["steps"] == 2
    assert shortened.call(mlcli.stylize, {"size": 999})["size"] == 32
    assert shortened.call(mlcli.siamese_train, {"loss": "fisher"}) == {"loss": "fisher"}
    for name in api.names():
        shortened.call(api.load(name), {})  # every option that is named is one of the command


def test_what_an_example_reads_and_does_not_write():
    assert named("mlcli classify photos/ --model runs/cifar") == ["photos", "runs/cifar"]
    assert named("mlcli train cifar10/train -o runs/cifar\nmlcli classify x.jpg --model runs/cifar") == [
        "cifar10/train"
    ]
    assert named("runs/cifar/model.safetensors: cifar10/train\n\tmlcli train $<") == ["cifar10/train"]
    assert named("classify('samples/photos/cat.jpg', output='photos')") == ["samples/photos"]
    assert named("my-photos photos-2 other/photos photos.jpg") == []
    assert named("mlcli siamese-verify runs/faces pairs.csv")[:2] == ["pairs.csv", "one.jpg"]
