"""`mlcli siamese-verify`"""

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from mlcli.api.call import Call
from mlcli.api.row_stream import streams
from mlcli.api.siamese_verify import SiameseVerifyConfig, siamese_verify
from mlcli.api.verdicts import NOBODY, Identification, Pair
from mlcli.commands import _options as option
from mlcli.commands._derived import command
from mlcli.commands._report import csv_text, out_bytes, table
from mlcli.commands._result import Result
from mlcli.counting import counted
from mlcli.errors import UsageError
from mlcli.io.files import json_text


@command(SiameseVerifyConfig)
def run(
    call: Call[SiameseVerifyConfig],
    exit_status: option.ExitStatus = False,
    quiet: option.Quiet = False,
) -> None:
    """Decide whether two images show the same identity, or which one of a gallery an image shows.

    Prints the distance, the calibrated threshold, and the probability that both are the same, assuming that half of
    all pairs are. A CSV of pairs has two files per line, or columns a and b, their names relative to its own folder.
    --evaluate reports the equal error rate and other figures on identities of your own; in fp32 unless asked, so that
    distances are the same everywhere. For very many pairs or images, --format jsonl, csv or parquet with -o FILE
    writes them while they are computed, and --resume resumes what was interrupted.

    With --exit-status, for scripts, the exit status is 0 if all pairs show the same identity, or each image one of the
    gallery; 1 if not; and 2 if an image cannot be read or anything else fails.
    """
    if exit_status and call.config.evaluate is not None:
        raise UsageError("--exit-status: tells whether images show the same identity; leave it out with --evaluate")
    config, call.write = call.config, out_bytes
    if streams(call) and config.evaluate is None:
        if exit_status:
            raise UsageError("--exit-status: with --format table or json, which keep all verdicts until the end")
        result = call.run(siamese_verify)
    else:
        document = Result(config.output, config.overwrite)
        result = call.run(siamese_verify)
        if config.format == "json":
            text = json_text(result.as_json())
        elif result.evaluation is not None:
            text = _evaluation_text(result.evaluation, config.format)
        elif result.identifications is not None:
            text = _identifications_text(result.identifications)
        else:
            text = _pairs_text(result.pairs)
        if text:
            document.write(text)
    if result.failures:
        raise typer.Exit(2 if exit_status else 1)
    if exit_status and not result.same:
        raise typer.Exit(1)


def _pairs_text(pairs: Sequence[Pair]) -> str:
    rows = [
        (
            pair.a,
            pair.b,
            "same" if pair.verdict.same else "different",
            f"{pair.verdict.distance:.4f}",
            f"{pair.verdict.threshold:.4f}",
            f"{pair.verdict.probability:.2%}",
        )
        for pair in pairs
        if pair.verdict is not None
    ]
    header = ("a", "b", "verdict", "distance", "threshold", "probability")
    return table(header, rows, right=(3, 4, 5)) if rows else ""


def _identifications_text(found: Sequence[Identification]) -> str:
    # An image that nobody can be named for, as the only one of the gallery, has a row all the same
    named = [(one, rank, near) for one in found if not one.error for rank, near in enumerate(one.nearest or [None], 1)]
    shown = [
        (
            one.image if rank == 1 else "",
            (one.identity or NOBODY) if rank == 1 else "",
            *((near.identity, f"{near.distance:.4f}", f"{near.probability:.2%}") if near else [""] * 3),
        )
        for one, rank, near in named
    ]
    return table(("image", "is", "nearest", "distance", "probability"), shown, right=(3, 4)) if shown else ""


def _evaluation_text(report: Mapping[str, Any], format: str) -> str:
    rows = [
        (name, report[name], *(report.get(f"{name}_interval") or ("", "")))
        for name in ("eer", "auc", "accuracy", "false_accept_rate", "true_accept_rate")
    ]
    for one in report["true_accepts"]:
        rate = f"{one['false_accept']:.1%} false accepts"
        rows.append((f"threshold for {rate}", one["threshold"], "", ""))
        rows.append((f"true accepts at {rate}", one["true_accept"], *(one["interval"] or ("", ""))))
    for name, words in (("one_shot", "groups"), ("one_shot_across", "all")):
        if one := report.get(name):
            within = f" within {words}" if "one_shot_across" in report else ""
            rows.append((f"{one['way']}-way {one['shot']}-shot{within}", one["accuracy"], *one["interval"]))
    if format == "csv":
        return csv_text(("figure", "value", "low", "high"), [*rows, ("threshold", report["threshold"], "", "")])
    pairs = report["pairs"]
    shown = [(name, *(f"{value:.4f}" if value != "" else "" for value in values)) for name, *values in rows]
    return (
        f"{counted(report['images'], 'image')} of {counted(report['identities'], 'identity')}, "
        f"{counted(pairs['same'], 'pair')} of one and "
        f"{pairs['different']} of two; threshold {report['threshold']:.4f}\n\n"
        + table(("figure", "value", "95 % from", "to"), shown, right=(1, 2, 3))
    )
