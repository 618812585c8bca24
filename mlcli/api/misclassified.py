"""The images that a classifier predicts wrongly: a sheet of them in its run, with a JSON beside it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mlcli.training.run_folder import Run

if TYPE_CHECKING:
    from torch import Tensor

    from mlcli.data.image_dataset import ImageDataset

SHOWN, SIDE = 60, 96  # largest number of images on the sheet, and their side there in pixels


def draw(
    run: Run,
    classes: Sequence[str],
    images: "ImageDataset",
    probabilities: "Tensor",
    record: Callable[..., None],
) -> int:
    """Draw the misclassified images, the most confident errors first; returns their number.

    probabilities: (N, classes) for the images, NaN for images that were not tested.  record: `outputs.write_beside`, to
    which what reproduces them is bound.
    """
    from mlcli.imaging import image_io
    from mlcli.methods.evaluation.classification import errors
    from mlcli.reporting import canvas

    wrong, predicted = errors(probabilities, images.class_labels)
    if not len(wrong):
        for file in (run.misclassified_file, run.misclassified_record):  # of the run when it was shorter
            file.unlink(missing_ok=True)
        return 0
    shown = wrong[:SHOWN]
    pairs = zip(images.class_labels[wrong].tolist(), predicted[wrong].tolist(), strict=True)
    names = [(classes[true], classes[answer]) for true, answer in pairs]
    labels = [f"{true}\nas {answer}" for true, answer in names[:SHOWN]]
    tiles = images.batch(shown).expand(-1, 3, -1, -1)
    file = run.misclassified_file
    image_io.write(canvas.grid(tiles, labels, side=SIDE), file)
    results: list[dict[str, Any]] = [
        {"image": str(images.paths[i]), "true": true, "predicted": answer, "probability": probabilities[i].max().item()}
        for i, (true, answer) in zip(wrong.tolist(), names, strict=True)
    ]
    height, width = tiles.shape[2:]
    for entry, box in zip(results, canvas.grid_boxes(len(shown), height, width, side=SIDE, lines=2), strict=False):
        entry["box"] = box  # where the image is on the sheet, for the report
    record(file, results=results)
    return len(wrong)
