"""`mlcli siamese-verify`"""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlcli.commands import _options as option
from mlcli.commands._report import Progress, complain, csv_text, table
from mlcli.io.files import json_text

if TYPE_CHECKING:
    from torch import Tensor

    from mlcli.methods.metric_learning.embedder import Siamese

NOBODY = "nobody"


@option.reads_images
def run(
    network: Annotated[Path, typer.Argument(metavar="RUN", help="A run of siamese-train.", show_default=False)],
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="A B", help="Two images; a .csv of pairs; or, with --gallery, any.", show_default=False),
    ] = None,
    gallery: Annotated[
        str | None,
        typer.Option("--gallery", help="A folder of known identities, a folder or an image each: who is it?"),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Identities of the gallery to name.")] = 5,
    evaluate: Annotated[
        str | None, typer.Option("--evaluate", help="A folder of identities: how well are they told apart?")
    ] = None,
    way: Annotated[int, typer.Option("--way", min=2, help="Of --evaluate: identities in a trial.")] = 20,
    shot: Annotated[int, typer.Option("--shot", min=1, help="Known images of each.")] = 1,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Images to classify.")] = 400,
    threshold: Annotated[
        float | None, typer.Option("--threshold", min=0, help="Another than the one that was calibrated.")
    ] = None,
    seed: option.Seed = 0,
    format: option.FormatOption = option.Format.table,
    output: option.Output = None,
    batch_size: option.BatchSize = 100,
    device: option.Device = "auto",
    precision: option.ExactPrecision = option.Precision.fp32,
    workers: option.Workers = None,
    overwrite: option.Overwrite = False,
    quiet: option.Quiet = False,
) -> None:
    """Tell whether two images show the same identity, or who of a gallery it is.

    Prints the distance, the calibrated threshold, and the probability that both are the same, as if half of all pairs
    were. A CSV of pairs has two files a line, or columns a and b, their names as from its own folder. --evaluate
    reports the equal error rate and other figures on identities of your own; in fp32 unless asked, so that distances
    are the same everywhere.
    """
    from dataclasses import replace

    from mlcli.commands._result import Result
    from mlcli.errors import UsageError
    from mlcli.methods.metric_learning import embedder
    from mlcli.runtime.device import Runtime

    images = images or []
    listed = len(images) == 1 and images[0].lower().endswith(".csv") and gallery is None
    if evaluate is not None and (images or gallery):
        raise UsageError("--evaluate takes its folder alone; leave out the images and --gallery")
    if evaluate is None and not (listed or (images if gallery else len(images) == 2)):
        raise UsageError("give two images, a .csv of pairs, images and --gallery FOLDER, or --evaluate FOLDER")
    result = Result(output, overwrite)
    siamese = embedder.load(network, Runtime.choose(device, precision))
    if threshold is not None:
        siamese.calibration = replace(siamese.calibration, threshold=threshold)
    reader = Reader(siamese, batch_size, workers, quiet)
    if evaluate is not None:
        report = _evaluate(reader, evaluate, way, shot, trials, seed)
        text = _evaluation_text(report, format)
    elif gallery is not None:
        text = _gallery_text(_among(reader, images, gallery, k), format)
    else:
        answers = _pairs(reader, _listed(Path(images[0])) if listed else [(images[0], images[1])])
        text = _pairs_text(answers, format, single=not listed)
    if text:
        result.write(text)
    if reader.failures:
        raise typer.Exit(1)


class Reader:
    """The network's points of files; what cannot be read is said and counted."""

    def __init__(self, siamese: "Siamese", batch_size: int, workers: int | None, quiet: bool):
        self.siamese, self.batch_size, self.workers, self.quiet = siamese, batch_size, workers, quiet
        self.failures = 0

    def points(self, paths: list[Path], what: str) -> tuple[dict[int, "Tensor"], dict[int, str]]:
        """({number of an image: its point}, {number of another: what is wrong})."""
        from mlcli.errors import ImageError

        good, bad = {}, {}
        rows = self.siamese.of_files(paths, batch_size=self.batch_size, workers=self.workers)
        with Progress(len(paths), what, quiet=self.quiet) as bar:
            for number, (_, point) in enumerate(rows):
                if isinstance(point, ImageError):
                    self.failures += 1
                    bar.complain(point)
                    bad[number] = str(point)
                else:
                    good[number] = point
                bar.to(number + 1)
        return good, bad


# -- pairs ---------------------------------------------------------------------------------------------------


def _listed(file: Path) -> list[tuple[str, str]]:
    """The pairs of a CSV, their names as from its folder. UsageError where a line has not two.

    They are its columns a and b or, where the first line does not name these, its first two.
    """
    from mlcli.data import path_lists
    from mlcli.errors import DataError, UsageError

    try:
        text = path_lists.decoded(file.read_bytes(), str(file))
        lines = enumerate(csv.reader(io.StringIO(text, newline=""), skipinitialspace=True), 1)
        rows = [(number, row) for number, row in lines if any(row)]
    except (OSError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as a list of pairs ({error})") from None
    columns = 0, 1
    header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    if "a" in header and "b" in header:
        columns, rows = (header.index("a"), header.index("b")), rows[1:]
    if not rows:
        raise DataError(f"{file}: holds no pairs; two files a line")
    for number, row in rows:
        if len(row) <= max(columns) or not all(row[column] for column in columns):
            raise UsageError(f"{file}: line {number} names no two files")
    return [tuple(str(file.parent / row[column]) for column in columns) for _, row in rows]


def _pairs(reader: Reader, pairs: list[tuple[str, str]]) -> list[dict]:
    from mlcli.data.folders import as_on_disk
    from mlcli.data.walking import special_problem

    siamese = reader.siamese
    named = dict.fromkeys(Path(name) for pair in pairs for name in pair)
    special = {path: problem for path in named if (problem := special_problem(path))}
    for problem in special.values():
        reader.failures += 1
        complain(problem)
    paths = [path for path in named if path not in special]
    good, bad = reader.points(list(map(as_on_disk, paths)), "images")
    number = {path: place for place, path in enumerate(paths)}
    answers = []
    for pair in pairs:
        answer = {"a": pair[0], "b": pair[1]}
        if wrong := [special[Path(name)] for name in pair if Path(name) in special]:
            answers.append(answer | {"error": str(wrong[0])})
            continue
        a, b = (number[Path(name)] for name in pair)
        if a in bad or b in bad:
            answers.append(answer | {"error": bad.get(a) or bad[b]})
            continue
        distance = siamese.between(good[a][None], good[b][None])
        answers.append(answer | judged(siamese, distance.item(), siamese.calibration.probability(distance).item()))
    return answers


def judged(siamese: "Siamese", distance: float, probability: float) -> dict:
    threshold = siamese.calibration.threshold
    return {
        "same": distance <= threshold,
        "distance": distance,
        "threshold": threshold,
        "probability": probability,
    }


def _pairs_text(answers: list[dict], format: str, *, single: bool) -> str:
    if format == "json":
        return json_text(answers[0] if single else answers)
    if format == "csv":
        header = ("a", "b", "same", "distance", "threshold", "probability", "error")
        return csv_text(header, [[answer.get(name, "") for name in header] for answer in answers])
    rows = [
        (
            answer["a"],
            answer["b"],
            "same" if answer["same"] else "different",
            f"{answer['distance']:.4f}",
            f"{answer['threshold']:.4f}",
            f"{answer['probability']:.2%}",
        )
        for answer in answers
        if "error" not in answer
    ]
    header = ("a", "b", "verdict", "distance", "threshold", "probability")
    return table(header, rows, right=(3, 4, 5)) if rows else ""


# -- gallery -------------------------------------------------------------------------------------------------


def _among(reader: Reader, images: list[str], gallery: str, k: int) -> list[dict]:
    """What the gallery knows of each image; one that is in the gallery itself is compared with the others there."""
    import torch

    from mlcli.api.inputs import named
    from mlcli.commands._report import say
    from mlcli.data.duplicates import without_duplicates
    from mlcli.data.folders import positions
    from mlcli.data.identities import open_identities
    from mlcli.errors import DataError
    from mlcli.methods.metric_learning.verification import nearest_identities

    siamese = reader.siamese
    known, problems = open_identities(gallery, loose=True)
    known, copies, _ = without_duplicates(known)
    for problem in (*problems, *copies):
        complain(problem)
    reader.failures += len(problems)
    if not known.paths:
        raise DataError(f"{gallery}: each of its images is of several identities; there is nothing to compare with")
    asked, unlisted = named(images)
    reader.failures += unlisted
    of_known, _ = reader.points(known.paths, "gallery")
    if not of_known:
        raise DataError(f"{gallery}: none of its images can be read")
    numbers = list(of_known)
    points, identities = torch.stack(list(of_known.values())), [known.labels[number] for number in numbers]
    if (count := len(set(identities))) < k:
        say(f"{gallery}: {count} identities, fewer than -k {k}; all of them are named", reader.quiet)
    own = positions(asked, [known.paths[number] for number in numbers]).tolist()
    of_asked, bad = reader.points(asked, "queries")
    answers = []
    for number, path in enumerate(asked):
        if number in bad:
            answers.append({"image": str(path), "error": bad[number]})
            continue
        distances = siamese.distances(of_asked[number][None], points)[0]
        if own[number] >= 0:
            distances[own[number]] = float("inf")
        ranked, found = nearest_identities(distances, identities, k, siamese.calibration.threshold)
        probabilities = siamese.calibration.probability(torch.tensor([d for _, d in ranked])).tolist()
        answers.append(
            {
                "image": str(path),
                "identity": None if found is None else known.classes[found],
                "threshold": siamese.calibration.threshold,
                "nearest": [
                    {"identity": known.classes[identity], "distance": distance, "probability": probability}
                    for (identity, distance), probability in zip(ranked, probabilities, strict=True)
                ],
            }
        )
    return answers


def _gallery_text(answers: list[dict], format: str) -> str:
    if format == "json":
        return json_text(answers)
    # An image that nobody can be named for, as the only one of the gallery, has a row all the same
    named = [
        (answer, rank, one)
        for answer in answers
        if "error" not in answer
        for rank, one in enumerate(answer["nearest"] or [None], 1)
    ]
    if format == "csv":
        rows = [
            (
                answer["image"],
                answer["identity"] or NOBODY,
                *((rank, *one.values()) if one else [""] * 4),
                answer["threshold"],
                "",
            )
            for answer, rank, one in named
        ]
        rows += [(answer["image"], *[""] * 6, answer["error"]) for answer in answers if "error" in answer]
        header = ("image", "is", "rank", "identity", "distance", "probability", "threshold", "error")
        return csv_text(header, rows)
    rows = [
        (
            answer["image"] if rank == 1 else "",
            (answer["identity"] or NOBODY) if rank == 1 else "",
            *((one["identity"], f"{one['distance']:.4f}", f"{one['probability']:.2%}") if one else [""] * 3),
        )
        for answer, rank, one in named
    ]
    return table(("image", "is", "nearest", "distance", "probability"), rows, right=(3, 4)) if rows else ""


# -- evaluation ----------------------------------------------------------------------------------------------


def _evaluate(reader: Reader, data: str, way: int, shot: int, trials: int, seed: int) -> dict:
    import torch

    from mlcli.api.identity_folders import read_identities
    from mlcli.commands._report import say
    from mlcli.data.identities import group
    from mlcli.methods.metric_learning.verification import evaluate, one_shot, require_pairs

    siamese = reader.siamese
    folder, _ = read_identities(data, learns=False)
    good, _ = reader.points(folder.paths, "evaluate")
    identities = torch.tensor([folder.labels[number] for number in good])
    require_pairs(identities, data)
    points = torch.stack(list(good.values()))
    report = {
        "run": siamese.model.name,
        "model_hash": siamese.hash,
        "images": len(points),
        "identities": len(identities.unique()),
        **evaluate(siamese, points, identities, seed),
    }
    options = {"way": way, "shot": shot, "trials": trials, "seed": seed}
    groups = [group(name) for name in folder.classes]
    report["one_shot"] = one_shot(siamese, points, identities, groups, **options)
    if report["one_shot"] is None:
        say(f"{data}: too few images of an identity for {shot}-shot classification; left out", reader.quiet)
    elif (most := report["one_shot"]["way"]) < way:
        say(f"{data}: {most} identities in a trial, not {way}; there are no more", reader.quiet)
    if report["one_shot"] and (left_out := report["identities"] - report["one_shot"]["identities"]):
        say(
            f"{data}: {left_out} identities left out of {shot}-shot classification; they have too few images, or too "
            "few others in their group",
            reader.quiet,
        )
    if len(set(groups)) > 1 and report["one_shot"]:
        report["one_shot"]["within"] = "groups"
        report["one_shot_across"] = one_shot(siamese, points, identities, [""] * len(groups), **options)
    return report


def _evaluation_text(report: dict, format: str) -> str:
    if format == "json":
        return json_text(report)
    rows = [
        (name, report[name], *(report.get(f"{name}_interval") or ("", "")))
        for name in ("eer", "auc", "accuracy", "false_accept_rate", "true_accept_rate")
    ]
    rows += [
        (f"true accepts at {one['false_accept']:.1%} false", one["true_accept"], *(one["interval"] or ("", "")))
        for one in report["true_accepts"]
    ]
    for name, words in (("one_shot", "groups"), ("one_shot_across", "all")):
        if one := report.get(name):
            within = f" within {words}" if "one_shot_across" in report else ""
            rows.append((f"{one['way']}-way {one['shot']}-shot{within}", one["accuracy"], *one["interval"]))
    if format == "csv":
        return csv_text(("figure", "value", "low", "high"), [*rows, ("threshold", report["threshold"], "", "")])
    pairs = report["pairs"]
    shown = [(name, *(f"{value:.4f}" if value != "" else "" for value in values)) for name, *values in rows]
    return (
        f"{report['images']} images of {report['identities']} identities, {pairs['same']} pairs of one and "
        f"{pairs['different']} of two; threshold {report['threshold']:.4f}\n\n"
        + table(("figure", "value", "95 % from", "to"), shown, right=(1, 2, 3))
    )
