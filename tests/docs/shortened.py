"""Command lines made short: the options that take the time are given once more, smaller, and the last one counts."""

from collections.abc import Callable, Sequence
from typing import Any

from mlcli import api
from mlcli.api.call import configuration_of
from mlcli.commands import COMMANDS
from mlcli.options import of, options

TRANSLATION = ["--size 16", "--filters 4", "--discriminator-filters 4", "--layers 1", "--steps 2", "--precision fp32"]
SOLVED = "fisher"  # a loss that takes no training steps, and refuses the options of training
# Of "--scales 16|--size 16" the one that is given is given again; else the first. "seuda: --filters 4" is for
# command lines that have the word `seuda`.
SHORT: dict[str, list[str]] = {
    "patches": ["--top 2", "--size 16"],
    "neighbors": ["-k 2", "--size 16"],
    "maximize": ["--steps 2", "--size 32", "--init: --octaves 1"],
    "atlas": ["--units 0", "--top 2", "--steps 1", "--size 32"],
    "explain": [
        *("--samples 2", "--masks 8", "--window 32", "--stride 32", "--path-steps 2"),
        "--evaluate: --model cifarnet",
    ],
    "equivariance": ["--points 2", "--layer conv1"],
    "stylize": ["--scales 32|--size 32", "--steps 2", "--style-layer conv1", "--content-layer conv2"],
    "analogy": ["--passes 1", "--levels 1", "--size: --size 24x18"],
    "train": ["--steps 2", "--batch-size 6", "--optimizer sgd", "--precision fp32", "--size 16"],
    "finetune": ["--epochs 1", "--batch-size 6", "--copies 0", "--folds 2", "--precision fp32"],
    "pretext": ["--steps 2", "--batch-size 6", "--size 16", "--labels 9", "--precision fp32"],
    "siamese-train": [
        "--steps 2",
        "--identities 3",
        "--images-per-identity 2",
        "--dimension 4",
        "--size 16",
        "--optimizer adamw",
    ],
    "siamese-verify": ["--trials 2", "--way 2"],
    "pairs": ["--size 16"],
    "pix2pix": [*TRANSLATION, "pix2pixhd: --generator unet"],
    "cyclegan": ["--generator unet", *TRANSLATION],
    "gan": [
        *("--steps 2", "--filters 4", "--latent 4", "--batch-size 6", "--compared 6", "--precision fp32"),
        "--discriminator-steps: --discriminator-steps 2",
    ],
    "sample": ["-n 12"],
    "adapt": [
        *("--source-steps 2", "--steps 2", "--batch-size 6", "--candidates 1", "--seeds 1", "--precision fp32"),
        *("seuda: --filters 4", "seuda: --source-batch-size 6", "cycada: --filters 4", "cycada: --pixel-steps 2"),
        "simgan: --filters 4",
    ],
    "render": ["-n 20", "--size 32"],
    "pendulum-train": ["--episodes 1", "--hidden 4", "--batch-size 4"],
    "pendulum-transfer": ["--seeds 1", "--episodes 2"],
    "export": ["--sample 6", "--int8: --least-agreement 0"],
    "benchmark": ["--rounds 1", "--seconds 0", "--batch-size 2", "--engine torch"],
}


def command_line(arguments: Sequence[str]) -> list[str]:
    """The arguments of `mlcli`, with those that make it short."""
    given = {word.partition("=")[0] for word in arguments}
    if not arguments or given & {"--help", "-h"}:
        return list(arguments)
    return [*arguments, *(word for pair in _more(arguments[0], given) for word in pair)]


def call(function: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a function of the api that are given by name, with those that make it short."""
    command = next((each.name for each in COMMANDS if api.named_after(each.name) == function.__name__), None)
    if command is None:  # load_policy, which is quick
        return dict(arguments)
    fields = {flag: each.name for each in options(configuration_of(function)) for flag in _flags(each)}
    given = {flag for flag, name in fields.items() if name in arguments} | {str(each) for each in arguments.values()}
    short = {fields[flag]: int(value) if value.isdigit() else value for flag, value in _more(command, given)}
    return arguments | short


def _more(command: str, given: set[str]) -> list[tuple[str, str]]:
    """The options, with their values, that make a command short. given: the words of its command line."""
    more = []
    for option in [] if SOLVED in given else SHORT.get(command, []):
        condition, _, alternatives = option.rpartition(": ")
        ways = [tuple(way.split()) for way in alternatives.split("|")]
        if not condition or condition in given:
            more.append(next((way for way in ways if way[0] in given), ways[0]))
    return more


def _flags(each: Any) -> Sequence[str]:
    return of(each).flags or (f"--{each.name.replace('_', '-')}",)
