"""`mlcli.siamese_verify`: whether two images show the same identity, and who of a gallery it is."""

import csv
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcli.api import common
from mlcli.api.call import Call, function
from mlcli.api.events import Progress, complain, say
from mlcli.api.identity_folders import read_identities
from mlcli.api.inputs import listed, named, one_image
from mlcli.api.row_stream import RowStream, WritesRows, streams
from mlcli.api.verdicts import (
    IDENTIFICATION_COLUMNS,
    PAIR_COLUMNS,
    Identification,
    Nearest,
    Pair,
    Verdict,
    identification_lines,
    pair_lines,
)
from mlcli.counting import counted
from mlcli.errors import DataError, ImageError, UsageError
from mlcli.options import DATA, METHOD, argument, option

if TYPE_CHECKING:
    from torch import Tensor

    from mlcli.api.common import OneImage
    from mlcli.imaging.memory_images import MemoryImage
    from mlcli.io.row_formats import Columns
    from mlcli.methods.metric_learning.embedder import Calibration, Siamese


@dataclass(frozen=True, kw_only=True)
class SiameseVerifyConfig(common.ReadsImages, common.ComputesExactly, WritesRows):
    run: Path = argument("Run folder of siamese-train.", path="input", metavar="RUN")
    images: common.Images | None = argument(
        "Images to compare: two; a .csv of pairs; or, with --gallery, any number.",
        default=None,
        metavar="A B",
        cli_type=list[str] | None,
    )
    gallery: Path | None = option(
        None,
        "Folder of known identities, with one subfolder or one image for each; the nearest ones are reported.",
        path="input",
        panel=DATA,
    )
    k: int = option(5, "Number of identities of the gallery to name.", "-k", minimum=1, panel=METHOD)
    evaluate: Path | None = option(
        None,
        "Folder of identities, in place of images, on which the error rates are measured.",
        path="input",
        panel=DATA,
    )
    way: int = option(20, "Number of identities in a trial of --evaluate.", minimum=2, panel=METHOD)
    shot: int = option(1, "Number of known images of each identity in a trial of --evaluate.", minimum=1, panel=METHOD)
    trials: int = option(
        400, "Number of trials of --evaluate, each of which classifies one image.", minimum=1, panel=METHOD
    )
    threshold: float | None = option(
        None,
        "Largest distance at which two images count as the same identity.",
        minimum=0,
        shown_default="the calibrated threshold of RUN",
        panel=METHOD,
    )
    seed: int = common.seed()
    batch_size: int = common.batch_size(100)


@dataclass(frozen=True)
class Verification:
    """What a Siamese network says of images.

    pairs: of two images or of a list.  identifications: with a gallery.  evaluation: the error rates on a folder of
    identities, of `verification.evaluate`, with those of one-shot classification.  failures: number of images and
    folders that could not be read.
    """

    pairs: tuple[Pair, ...] = ()
    identifications: tuple[Identification, ...] | None = None
    evaluation: Mapping[str, Any] | None = None
    of_list: bool = False
    failures: int = 0

    @property
    def same(self) -> bool:
        """Whether all pairs show the same identity or, with a gallery, each image one of its identities."""
        pairs = all(pair.verdict is not None and pair.verdict.same for pair in self.pairs)
        return pairs and all(one.identity is not None for one in self.identifications or ())

    def as_json(self) -> Any:
        """What `mlcli siamese-verify --format json` prints."""
        if self.evaluation is not None:
            return dict(self.evaluation)
        if self.identifications is not None:
            return [identification.as_json() for identification in self.identifications]
        pairs = [pair.as_json() for pair in self.pairs]
        return pairs if self.of_list else pairs[0]


@function(SiameseVerifyConfig)
def siamese_verify(call: Call[SiameseVerifyConfig]) -> Verification:
    """Tell whether two images show the same identity, or who of a gallery it is.

    run is the folder of a run of `mlcli.siamese_train`. Two images, as paths, images of Pillow, arrays or tensors, are
    compared by the distance of their embeddings, which is at least 0; they count as the same up to the calibrated
    threshold. A .csv in place of two images is a list of pairs, two files a line or the columns a and b, their names
    relative to its own folder. With `gallery` the nearest known identities of each image are named. With `evaluate`,
    error rates are measured on all pairs of other identities, with 95 % intervals, and the accuracy of one-shot
    classification (Lake et al. 2015).

        >>> import mlcli
        >>> pair = mlcli.siamese_verify("runs/faces", ["one.jpg", "other.jpg"]).pairs[0]  # doctest: +SKIP
        >>> pair.verdict.same, pair.verdict.distance  # doctest: +SKIP
        (True, 0.31)

    Images that cannot be read have an `error`. Raises UsageError for options that do not go together, DataError for a
    list, a gallery or a folder without what is needed, WeightsError where run is no Siamese network.
    """
    from mlcli.api.outputs import determining, record
    from mlcli.io.row_formats import Columns
    from mlcli.methods.metric_learning import embedder
    from mlcli.runtime.device import Runtime
    from mlcli.runtime.processes import Processes

    config = call.config
    images: list[OneImage] = [] if config.images is None else listed(config.images)
    pairs_file = _pairs_file(images) if config.gallery is None else None
    if config.evaluate is not None and (images or config.gallery):
        raise UsageError("--evaluate takes its folder alone; leave out the images and --gallery")
    if config.evaluate is None and not (pairs_file or (images if config.gallery else len(images) == 2)):
        raise UsageError("give two images, a .csv of pairs, images and --gallery FOLDER, or --evaluate FOLDER")
    runtime = Runtime.choose(config.device, config.precision)
    processes = Processes(runtime.device)
    runtime = replace(runtime, device=processes.device)
    if config.evaluate is not None:
        if config.format in ("jsonl", "parquet") or config.resume or config.shard:
            raise UsageError("--evaluate: gives one result; take --format table, json or csv, without --resume")
        reader = _Reader(embedder.load(config.run, runtime), config)
        return Verification(evaluation=_evaluated(reader, config.evaluate, config), failures=reader.failures)
    stream = RowStream(call, processes)
    siamese = embedder.load(config.run, runtime)
    reader = _Reader(siamese, config)
    described = record("siamese-verify", determining(config, precision=runtime.precision), siamese)
    if config.gallery is not None:
        identify = _identifier(reader, config.gallery, config.k)
        queries, unlisted = processes.by_first(lambda: named(images))
        reader.failures += unlisted
        if streams(call):
            columns = Columns(IDENTIFICATION_COLUMNS, identification_lines)
            _stream(stream, queries, identify, columns, described, reader)
            processes.close()
            return Verification(identifications=(), failures=reader.failures + stream.errors)
        return Verification(identifications=tuple(identify(queries)), failures=reader.failures)
    pairs: Sequence[tuple[OneImage, OneImage]]
    pairs = _listed_pairs(pairs_file) if pairs_file else [(images[0], images[1])]
    if streams(call):
        compare = partial(_compared, reader)
        _stream(stream, pairs, compare, Columns(PAIR_COLUMNS, pair_lines), described, reader)
        processes.close()
        return Verification(of_list=True, failures=stream.errors)
    return Verification(tuple(_compared(reader, pairs)), of_list=pairs_file is not None, failures=reader.failures)


def _stream(
    stream: RowStream,
    items: Sequence[Any],
    make: Callable[[Sequence[Any]], Sequence[Any]],
    columns: "Columns",
    described: dict[str, Any],
    reader: "_Reader",
) -> None:
    """Write the rows of items while they are made, batch by batch; what cannot be read is said with its row."""

    def rows(some: Sequence[Any]) -> Iterator[Any]:
        for start in range(0, len(some), reader.batch_size):
            yield from make(some[start : start + reader.batch_size])

    failures, reader.says = reader.failures, False
    stream.fill(items, rows, columns, described, batch_size=reader.batch_size)
    reader.failures = failures


def _pairs_file(images: "Sequence[OneImage]") -> Path | None:
    """The .csv that is given in place of two images, if it is."""
    file = images[0] if len(images) == 1 else None
    return Path(file) if isinstance(file, (str, os.PathLike)) and os.fspath(file).lower().endswith(".csv") else None


class _Reader:
    """Embeds images; those that cannot be read are counted (failures) and, if it `says`, said."""

    says = True

    def __init__(self, siamese: "Siamese", config: SiameseVerifyConfig):
        assert siamese.calibration is not None  # of a file it has been read
        self.siamese, self.calibration = siamese, siamese.calibration
        if config.threshold is not None:
            self.calibration = siamese.calibration = replace(self.calibration, threshold=config.threshold)
        self.batch_size, self.workers = config.batch_size, config.workers
        self.failures = 0

    def points(self, images: "Sequence[Path | MemoryImage]", title: str) -> tuple[dict[int, "Tensor"], dict[int, str]]:
        """({index of an image: its point (D,)}, {index of an unreadable image: the error})."""
        good, bad = {}, {}
        rows = self.siamese.of_files(images, batch_size=self.batch_size, workers=self.workers)
        with Progress(len(images), title) if self.says else nullcontext() as bar:
            for index, (_, point) in enumerate(rows):
                if isinstance(point, ImageError):
                    self.failures += 1
                    bad[index] = str(point)
                else:
                    good[index] = point
                if bar is not None:
                    if index in bad:
                        bar.complain(point)
                    bar.to(index + 1)
        return good, bad


def _listed_pairs(file: Path) -> list[tuple[str, str]]:
    """The pairs of a CSV, their names relative to its folder. Raises UsageError where a line has not two.

    They are its columns a and b or, where the first line does not name these, its first two.
    """
    from mlcli.data import path_lists

    try:
        text = path_lists.decoded(file.read_bytes(), str(file))
        lines = enumerate(csv.reader(io.StringIO(text, newline=""), skipinitialspace=True), 1)
        rows = [(number, row) for number, row in lines if any(row)]
    except (OSError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as a list of pairs ({error})") from None
    first, second = 0, 1
    header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    if "a" in header and "b" in header:
        first, second, rows = header.index("a"), header.index("b"), rows[1:]
    if not rows:
        raise DataError(f"{file}: holds no pairs; two files a line")
    for number, row in rows:
        if len(row) <= max(first, second) or not (row[first] and row[second]):
            raise UsageError(f"{file}: line {number} names no two files")
    return [(str(file.parent / row[first]), str(file.parent / row[second])) for _, row in rows]


def _compared(reader: _Reader, pairs: "Sequence[tuple[OneImage, OneImage]]") -> list[Pair]:
    """The verdict of each pair. Each image is read once."""
    from mlcli.data.sources import as_on_disk
    from mlcli.data.walking import special_problem

    # What was given, by identity in memory or by path
    read = [tuple(one_image(image, number) for number, image in enumerate(pair)) for pair in pairs]
    images = list(dict.fromkeys(image for pair in read for image in pair))
    special = {}
    for image in images:
        if isinstance(image, Path) and (problem := special_problem(image)):
            special[image] = str(problem)
            reader.failures += 1
            if reader.says:
                complain(problem)
    readable = [image for image in images if image not in special]
    files = [as_on_disk(image) if isinstance(image, Path) else image for image in readable]
    points, errors = reader.points(files, "images")
    of = {image: points[index] for index, image in enumerate(readable) if index in points}
    wrong = special | {image: errors[index] for index, image in enumerate(readable) if index in errors}
    compared = []
    for given, pair in zip(pairs, read, strict=True):
        a, b = (
            os.fspath(one) if isinstance(one, (str, os.PathLike)) else str(image)
            for one, image in zip(given, pair, strict=True)
        )
        if problems := [wrong[image] for image in pair if image in wrong]:
            compared.append(Pair(a, b, error=problems[0]))
        else:
            distance = reader.siamese.between(of[pair[0]][None], of[pair[1]][None])
            compared.append(Pair(a, b, _verdict(reader.calibration, distance)))
    return compared


def _verdict(calibration: "Calibration", distance: "Tensor") -> Verdict:
    """Of one distance (1,)."""
    return Verdict(
        same=distance.item() <= calibration.threshold,
        distance=distance.item(),
        threshold=calibration.threshold,
        probability=calibration.probability(distance).item(),
    )


def _identifier(
    reader: _Reader, gallery: Path, k: int
) -> "Callable[[Sequence[Path | MemoryImage]], list[Identification]]":
    """Tells who of the gallery images show; one that is in the gallery itself is compared with the others there."""
    import torch

    from mlcli.data.duplicates import without_duplicates
    from mlcli.data.folders import positions
    from mlcli.data.identities import open_identities
    from mlcli.methods.metric_learning.verification import nearest_identities

    known, problems = open_identities(gallery, loose=True)
    known, copies, _ = without_duplicates(known)
    for problem in (*problems, *copies):
        complain(problem)
    reader.failures += len(problems)
    if not known.paths:
        raise DataError(f"{gallery}: each of its images is of several identities; there is nothing to compare with")
    of_known, _ = reader.points(known.paths, "gallery")
    if not of_known:
        raise DataError(f"{gallery}: none of its images can be read")
    points, identities = torch.stack(list(of_known.values())), [known.labels[index] for index in of_known]
    if (count := len(set(identities))) < k:
        say(f"{gallery}: {counted(count, 'identity')}, fewer than -k {k}; all of them are named")
    known_paths, threshold = [known.paths[index] for index in of_known], reader.calibration.threshold

    def identify(queries: "Sequence[Path | MemoryImage]") -> list[Identification]:
        files = {index: query for index, query in enumerate(queries) if isinstance(query, Path)}
        among = positions(list(files.values()), known_paths).tolist()
        own = {index: position for index, position in zip(files, among, strict=True) if position >= 0}
        of_queries, errors = reader.points(queries, "queries")
        found = []
        for index, query in enumerate(queries):
            if index in errors:
                found.append(Identification(str(query), error=errors[index]))
                continue
            distances = reader.siamese.distances(of_queries[index][None], points)[0]
            if index in own:
                distances[own[index]] = float("inf")
            ranked, identity = nearest_identities(distances, identities, k, threshold)
            probabilities = reader.calibration.probability(torch.tensor([distance for _, distance in ranked])).tolist()
            nearest = tuple(
                Nearest(known.classes[label], distance, probability)
                for (label, distance), probability in zip(ranked, probabilities, strict=True)
            )
            name = None if identity is None else known.classes[identity]
            found.append(Identification(str(query), name, threshold, nearest))
        return found

    return identify


def _evaluated(reader: _Reader, data: Path, config: SiameseVerifyConfig) -> dict[str, Any]:
    """Error rates on the pairs of other identities, and the accuracy of one-shot classification."""
    import torch

    from mlcli.data.identities import group
    from mlcli.methods.metric_learning.verification import evaluate, one_shot, require_pairs

    siamese = reader.siamese
    folder, _ = read_identities(data, learns=False)
    good, _ = reader.points(folder.paths, "evaluate")
    identities = torch.tensor([folder.labels[index] for index in good])
    require_pairs(identities, data)
    points = torch.stack(list(good.values()))
    report = {
        "run": siamese.model.name,
        "model_hash": siamese.hash,
        "images": len(points),
        "identities": len(identities.unique()),
        **evaluate(siamese, points, identities, config.seed),
    }
    way, shot = config.way, config.shot
    trials = {"way": way, "shot": shot, "trials": config.trials, "seed": config.seed}
    groups = [group(name) for name in folder.classes]
    report["one_shot"] = one_shot(siamese, points, identities, groups, **trials)
    if report["one_shot"] is None:
        say(f"{data}: too few images of an identity for {shot}-shot classification; left out")
    elif (most := report["one_shot"]["way"]) < way:
        say(f"{data}: {counted(most, 'identity')} in a trial, not {way}; there are no more")
    if report["one_shot"] and (left_out := report["identities"] - report["one_shot"]["identities"]):
        say(
            f"{data}: {counted(left_out, 'identity')} left out of {shot}-shot classification: too few images, or too "
            "few others in the group"
        )
    if len(set(groups)) > 1 and report["one_shot"]:
        report["one_shot"]["within"] = "groups"
        report["one_shot_across"] = one_shot(siamese, points, identities, [""] * len(groups), **trials)
    return report
