"""`mlcli adapt --task segment` over masks that it cannot learn from."""

from PIL import Image

from tests import shapes
from tests.cli import mlcli


def test_a_classifier_is_refused_for_masks_before_any_work(tmp_path):
    for part in ("source", "target"):
        shapes.write_masks(tmp_path / part, 4)
    words = ["adapt", "--method", "seuda", "--task", "segment", tmp_path / "source", tmp_path / "target"]
    said = mlcli(*words, "-o", tmp_path / "run", "--model", "lenet", status=2).stderr
    assert "--model lenet: draws no masks" in said and not (tmp_path / "run").exists()


def test_masks_that_do_not_fit_are_named(tmp_path):
    for part, count, target in (("source", 20, False), ("target", 12, True)):
        shapes.write_masks(tmp_path / part, count, ord(part[0]), target)
    words = ["adapt", "--method", "seuda", "--task", "segment", tmp_path / "source", tmp_path / "target"]
    words += ["-o", tmp_path / "run", "--source-steps", 3, "--steps", 3, "--filters", 4, "--precision", "fp32"]
    words += ["--batch-size", 6, "--candidates", 1]
    first, *others = sorted((tmp_path / "source/masks").iterdir())
    Image.open(first).resize((50, 20), Image.Resampling.NEAREST).save(first)
    said = mlcli(*words).stderr
    assert f"{first.name}: is 50 x 20 pixels, its image 16 x 16" in said
    for target in (first, *others):
        Image.open(target).point(lambda v: 255 * v).save(target)
    said = mlcli(*words, "--overwrite", status=1).stderr
    assert "its masks hold 2 numbers, 0; 255; number the classes 0, 1, 2" in said
