import csv
import io
import json
import os
import signal
import subprocess
import sys

import pytest
from PIL import Image

import mlcli as package
from tests import odd_images
from tests.cli import ENVIRONMENT, mlcli, mlcli_process
from tests.tiny import COLORS, class_folders

SAMPLES = os.path.join(os.path.dirname(__file__), "..", "..", "samples", "photos")


@pytest.fixture
def images(tmp_path):
    """blue.png, green.png, red.png"""
    for name, color in COLORS.items():
        Image.new("RGB", (20, 16), color).save(tmp_path / f"{name}.png")
    return tmp_path


def entries(*arguments, **options):
    return json.loads(mlcli("classify", *arguments, "--format", "json", **options).stdout)


def test_json_is_a_list_in_input_order(images, colors):
    paths = [str(images / f"{name}.png") for name in ("red", "blue", "green")]
    found = entries(*paths, "--model", colors, "--top-k", 2)
    assert [entry["image"] for entry in found] == paths
    for entry, name in zip(found, ("red", "blue", "green"), strict=True):
        assert set(entry) == {"image", "predictions"} and len(entry["predictions"]) == 2
        best, second = entry["predictions"]
        assert set(best) == {"label", "index", "probability"}
        assert best["label"] == name and best["index"] == sorted(COLORS).index(name)
        assert 1 >= best["probability"] > 0.5 > second["probability"] > 0


def test_more_classes_than_there_are(images, colors):
    (entry,) = entries(images / "red.png", "--model", colors, "--top-k", 10**20)
    assert sum(p["probability"] for p in entry["predictions"]) == pytest.approx(1, abs=1e-5)
    assert {p["label"] for p in entry["predictions"]} == set(COLORS)


def test_a_folder_with_bad_images(images, colors):
    (images / "a broken.jpg").write_bytes(b"nothing")
    result = mlcli("classify", images, images / "absent.png", "--model", colors, "--format", "json", status=1)
    found = json.loads(result.stdout)
    names = [os.path.basename(entry["image"]) for entry in found]
    assert names == ["a broken.jpg", "blue.png", "green.png", "red.png", "absent.png"]
    assert set(found[0]) == set(found[4]) == {"image", "error"}
    assert [e["predictions"][0]["label"] for e in found[1:4]] == ["blue", "green", "red"]
    *named, summary = result.stderr.splitlines()
    assert len(named) == 2 and found[0]["error"] in named[0] and found[4]["error"] in named[1]
    assert summary == "classify: 3 images read; left out: 2 images that cannot be read"


@pytest.mark.parametrize("separator", ["\n", "\0", "\r\n"])
def test_paths_on_stdin(images, colors, separator):
    paths = [str(images / "red.png"), str(images / "blue.png")]
    found = entries("-", "--model", colors, input=separator.join([*paths, ""]))
    assert [entry["image"] for entry in found] == paths


def test_table(images, colors):
    (images / "green.png").write_bytes(b"")
    result = mlcli("classify", images, "--model", colors, "--top-k", 1, status=1)
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["image", "class", "probability"] in lines
    assert [line[1] for line in lines if "%" in "".join(line)] == ["blue", "red"]
    assert "green.png: empty file" in result.stderr


def test_csv(images, colors):
    (images / "green.png").write_bytes(b"")
    result = mlcli("classify", images, "--model", colors, "--top-k", 2, "--format", "csv", status=1)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(os.path.basename(r["image"]), r["rank"], r["label"]) for r in rows if r["rank"] == "1"] == [
        ("blue.png", "1", "blue"),
        ("red.png", "1", "red"),
    ]
    assert len(rows) == 5 and "empty file" in rows[2]["error"] and not rows[2]["label"]


def test_output_file(images, colors, tmp_path):
    target = tmp_path / "new" / "result.json"
    arguments = ("classify", images / "red.png", "--model", colors, "--format", "json", "-o", target)
    assert mlcli(*arguments).stdout == ""
    first = target.read_bytes()
    assert json.loads(first)[0]["predictions"][0]["label"] == "red"
    target.write_text("mine")
    assert "--overwrite replaces it" in mlcli(*arguments, status=2).stderr
    assert target.read_text() == "mine"
    mlcli(*arguments, "--overwrite")
    assert target.read_bytes() == first
    assert [file.name for file in target.parent.iterdir()] == ["result.json"]


def test_odd_images(tmp_path, colors):
    expected, bad = odd_images.make(tmp_path)
    result = mlcli("classify", tmp_path, "--model", colors, "--format", "json", status=1)
    found = {os.path.relpath(entry["image"], tmp_path): entry for entry in json.loads(result.stdout)}
    assert len(bad) >= 30
    for name in expected:
        assert found[name]["predictions"], name
    for name in bad:
        assert name in found[name]["error"] and name in result.stderr, name
    *named, summary = result.stderr.splitlines()
    assert len(named) == len(bad)
    assert f"{len(expected)} images read; left out: {len(bad)} images that cannot be read" in summary
    assert "several pages" in summary and "several frames" in summary
    assert "Traceback" not in result.stderr and "Warning" not in result.stderr
    table = mlcli("classify", tmp_path / "new\nline.png", "--model", colors, "--top-k", 1).stdout
    assert r"new\nline.png" in table and len(table.split("\n\n")[0].strip().splitlines()) == 3


@pytest.mark.skipif(sys.platform == "darwin", reason="file names there are always UTF-8")
def test_names_that_are_no_utf8(tmp_path, colors):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    Image.new("RGB", (16, 16), COLORS["red"]).save(os.fsdecode(name), "PNG")
    done = mlcli_process("classify", name, "--model", colors, "--format", "json")
    (entry,) = json.loads(done.stdout.decode("utf-8"))
    assert os.fsencode(entry["image"]) == name  # valid UTF-8, that still names the file
    assert r"caf\xe9.png" in mlcli("classify", os.fsdecode(name), "--model", colors).stdout
    assert name in mlcli("classify", os.fsdecode(name), "--model", colors, "--format", "csv").stdout_bytes
    mlcli("classify", os.fsdecode(name), "--model", colors, "--format", "json", "-o", tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text("utf-8")) == [entry]


def test_no_images(tmp_path, colors):
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "notes.txt").write_text("none")
    result = mlcli("classify", folder, "--model", colors, status=1)
    assert str(folder) in result.stderr and "no images there" in result.stderr and result.stdout == ""
    assert "no images there" in mlcli("classify", "-", "--model", colors, status=1, input="").stderr


# -- unknown images --------------------------------------------------------------------------------------------------


def test_an_image_whose_best_class_is_improbable_is_unknown(images, colors, tmp_path):
    Image.new("RGB", (20, 16), (128, 128, 128)).save(images / "gray.png")  # as probable in each of three classes
    arguments = ("classify", images, "--model", colors, "--min-probability", 0.5)
    found = {
        os.path.basename(entry["image"]): entry for entry in json.loads(mlcli(*arguments, "--format", "json").stdout)
    }
    (unknown,) = found["gray.png"]["predictions"]
    candidates = found["gray.png"]["candidates"]
    assert unknown == {"label": "unknown", "index": None, "probability": candidates[0]["probability"]}
    assert {candidate["label"] for candidate in candidates} == set(COLORS) and unknown["probability"] < 0.5
    assert found["red.png"]["predictions"][0]["label"] == "red" and set(found["red.png"]) == {"image", "predictions"}
    rows = list(csv.DictReader(io.StringIO(mlcli(*arguments, "--format", "csv").stdout)))
    (row,) = [row for row in rows if row["image"].endswith("gray.png")]
    assert (row["rank"], row["label"], row["index"], row["error"]) == ("1", "unknown", "", "")
    table = mlcli(*arguments).stdout
    (line,) = [line.split() for line in table.splitlines() if "gray.png" in line]
    assert line[1] == "unknown" and line[2] == f"{unknown['probability']:.2%}"
    # without the option it is one of the classes
    assert all(entry["predictions"][0]["label"] in COLORS for entry in entries(images, "--model", colors))


def test_unknown_images_in_python(images, colors):
    Image.new("RGB", (20, 16), (128, 128, 128)).save(images / "gray.png")
    result = package.classify([images / "gray.png", images / "red.png"], model=str(colors), min_probability=0.5)
    gray, red = result.predictions
    assert gray.unknown and not red.unknown and len(gray.classes) == 3
    assert gray.answers == (("unknown", "", None, gray.classes[0][3]),) and red.answers == red.classes


def test_an_evaluation_counts_the_unknown_and_tells_the_accuracy_of_the_answered(tmp_path, colors):
    class_folders(tmp_path, per_class=4, noise=5)
    for number in range(3):  # answered as blue or unknown
        color = COLORS["blue"] if number == 0 else (128, 128, 128)
        Image.new("RGB", (16, 16), color).save(tmp_path / "red" / f"other{number}.png")
    arguments = ("classify", tmp_path, "--evaluate", "--model", colors, "--min-probability", 0.5)
    report = json.loads(mlcli(*arguments, "--format", "json").stdout)
    assert report["count"] == 15 and report["unknown"] == 2
    assert report["answered_accuracy"] == pytest.approx(12 / 13)
    low, high = report["answered_interval"]
    assert low < 12 / 13 < high
    red = report["per_class"]["red"]
    assert red["unknown"] == 2 and red["answered_accuracy"] == pytest.approx(4 / 5) and red["count"] == 7
    table = mlcli(*arguments).stdout
    assert "2 images unknown; 13 answered images, accuracy 92.31%" in table and "accuracy of the answered" in table
    rows = {row["class"]: row for row in csv.DictReader(io.StringIO(mlcli(*arguments, "--format", "csv").stdout))}
    assert rows["red"]["unknown"] == "2" and rows["blue"]["unknown"] == "0" and float(rows["red"]["answered_accuracy"])
    none = mlcli(*arguments[:-1], 1).stdout  # noise keeps the best class below certainty
    assert "15 images unknown; 0 answered images\n" in none


# -- evaluation ------------------------------------------------------------------------------------------------------


def test_evaluate(tmp_path, colors):
    class_folders(tmp_path, per_class=4, noise=5)
    (tmp_path / "red" / "00.png").rename(tmp_path / "blue" / "red.png")
    (tmp_path / "green" / "00.png").write_bytes(b"cut")
    arguments = ("classify", tmp_path, "--evaluate", "--model", colors)
    result = mlcli(*arguments, "--format", "json", status=1)
    report = json.loads(result.stdout)
    assert set(report) == {
        "model", "flipped", "accuracy", "top5_accuracy", "interval", "per_class", "confusion", "count",
        "balanced_accuracy", "balanced_interval",
    }  # fmt: skip
    assert report["count"] == 11 and report["accuracy"] == pytest.approx(10 / 11) and report["top5_accuracy"] == 1
    assert report["confusion"] == [[4, 0, 1], [0, 3, 0], [0, 0, 3]]
    assert report["per_class"]["blue"] == {"accuracy": 0.8, "count": 5}
    assert report["interval"][0] < 10 / 11 < report["interval"][1]
    assert str(tmp_path / "green" / "00.png") in result.stderr
    table = mlcli(*arguments, status=1).stdout
    assert "accuracy 90.91%" in table and "11 images" in table
    assert ["blue", "4", "0", "1"] in [line.split() for line in table.splitlines()]
    rows = list(csv.DictReader(io.StringIO(mlcli(*arguments, "--format", "csv", status=1).stdout)))
    assert [(r["class"], r["count"]) for r in rows] == [("blue", "5"), ("green", "3"), ("red", "3")]


def test_evaluate_with_folders_that_do_not_fit(tmp_path, colors, images):
    (tmp_path / "labeled" / "gren").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(tmp_path / "labeled" / "gren" / "one.png")
    for data, status, text in [
        ([tmp_path / "labeled"], 1, "gren"),
        ([tmp_path / "absent"], 1, "absent"),
        ([images / "red.png"], 1, "red.png"),
        ([tmp_path, tmp_path], 2, "takes one folder"),
    ]:
        result = mlcli("classify", *data, "--evaluate", "--model", colors, status=status)
        assert text in result.stderr and result.stdout == ""
    (tmp_path / "labeled" / "gren").rename(tmp_path / "labeled" / "green")
    (tmp_path / "labeled" / "green" / "one.png").write_bytes(b"")
    result = mlcli("classify", tmp_path / "labeled", "--evaluate", "--model", colors, status=1)
    assert "no readable image" in result.stderr


# -- wrong command lines ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["--model", "resnet51"], "did you mean"),
        (["--model", "x" * 3000], "neither a run folder nor a known model"),
        (["--model", ""], "neither a run folder nor a known model"),
        (["--device", "gpu"], "unknown device"),
        (["--device", "cuda:99"], "CUDA devices"),
        (["--precision", "fp8"], "fp8"),
        (["--precision", "fp16", "--device", "cpu"], "fp16 needs a GPU"),
        (["--format", "xml"], "xml"),
        (["--top-k", "0"], "top-k"),
        (["--min-probability", "1.1"], "min-probability"),
        (["--top-k", "many"], "top-k"),
        (["--batch-size", "0"], "batch-size"),
        (["--workers", "-1"], "workers"),
        (["-o", "."], "a folder"),
        (["--unknown"], "unknown"),
    ],
)
def test_a_wrong_command_line_exits_with_2(images, colors, arguments, text):
    result = mlcli("classify", images / "red.png", "--model", colors, *arguments, status=2)
    assert text in result.stderr and result.stdout == ""


def test_no_images_named_at_all():
    assert "images" in mlcli("classify", status=2).stderr.lower()


@pytest.mark.parametrize("output", ["/dev/null/result.json", "{}/red.png/result.json", "{}/" + "n" * 300])
def test_an_output_that_cannot_be_written(images, colors, output):
    result = mlcli("classify", images / "red.png", "--model", colors, "-o", output.format(images), status=1)
    assert "cannot be written" in result.stderr


def test_weights_that_cannot_be(images, colors, tmp_path):
    (tmp_path / "bad.pth").write_bytes(b"\x80\x02]q\x00.")
    for file in ("absent.safetensors", "bad.pth", "red.png", "n" * 300):
        result = mlcli("classify", images / "red.png", "--model", colors, "--weights", tmp_path / file, status=1)
        assert file in result.stderr


# -- as a process ----------------------------------------------------------------------------------------------------


def test_a_reader_that_has_read_enough(images, colors):
    command = [sys.executable, "-m", "mlcli.cli", "classify", images, "--model", colors, "--format", "csv"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
    process.stdout.close()  # as `head` does, here before the result is written
    process.stdout = None
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"classify: 3 images read\n")


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(colors, tmp_path, number, status):
    class_folders(tmp_path, per_class=700)
    (tmp_path / "blue" / "00.png").write_bytes(b"")  # named on stderr: by then it is at work
    target = tmp_path / "result.json"
    command = [sys.executable, "-m", "mlcli.cli", "classify", tmp_path, "--model", colors, "-o", target]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
    said = process.stderr.readline()
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert b"00.png" in said and process.returncode == status
    assert b"Traceback" not in errors and output == b"" and not target.exists()
    assert not list(tmp_path.glob(".mlcli*"))


def test_the_embedded_network_needs_neither_torchvision_nor_rich():
    code = (
        "import sys; from mlcli.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "heavy = 'torchvision', 'timm', 'rich', 'torchmetrics', 'matplotlib', 'jinja2'\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    photograph = os.path.join(SAMPLES, "cat.jpg")
    command = [sys.executable, "-c", code, "classify", photograph, "--model", "cifarnet", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_embedded_network_knows_a_cat():
    (entry,) = entries(os.path.join(SAMPLES, "cat.jpg"), "--model", "cifarnet")
    assert entry["predictions"][0]["label"] == "cat" and "wnid" not in entry["predictions"][0]


def test_the_default_model_knows_the_classes_of_imagenet():
    files = [os.path.join(SAMPLES, f"{name}.jpg") for name in ("coffee", "cameraman", "cat")]
    best = [entry["predictions"][0] for entry in entries(*files)]
    assert [(p["label"], p["wnid"], p["index"]) for p in best[:2]] == [
        ("espresso", "n07920052", 967),
        ("tripod", "n04485082", 872),
    ]
    assert best[2]["index"] in range(281, 286)  # cats
    assert all(p["probability"] > 0.9 for p in best[:2])


def test_csv_names_the_wordnet_id():
    text = mlcli("classify", os.path.join(SAMPLES, "coffee.jpg"), "--format", "csv", "--top-k", 1).stdout
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["label"], row["wnid"], row["error"]) == ("espresso", "n07920052", "")


def test_a_model_of_few_classes_claims_no_more_than_it_knows(images, colors):
    last = mlcli("classify", images / "red.png", "--model", colors).stdout.splitlines()[-1]
    assert last == f"{colors} knows 3 classes and no others: blue, green, red."
    assert "knows" not in mlcli("classify", os.path.join(SAMPLES, "cat.jpg")).stdout


@pytest.mark.parametrize(
    "names",
    [
        ("n07920052", "n04485082"),
        ("espresso", "tripod"),
        ("967", "872"),
        ("Espresso", "tripod"),
    ],
)
def test_class_folders_of_imagenet_are_named_by_id_name_or_number(tmp_path, names):
    for name, file in zip(names, ("coffee", "cameraman"), strict=True):
        (tmp_path / name).mkdir()
        os.symlink(os.path.abspath(os.path.join(SAMPLES, f"{file}.jpg")), tmp_path / name / "1.jpg")
    report = json.loads(mlcli("classify", tmp_path, "--evaluate", "--format", "json").stdout)
    assert report["accuracy"] == 1 and report["count"] == 2
    assert report["per_class"]["espresso"] == {"wnid": "n07920052", "accuracy": 1.0, "count": 1}


def test_a_folder_whose_name_is_two_classes_is_asked_for_by_id(tmp_path):
    (tmp_path / "crane").mkdir()
    os.symlink(os.path.abspath(os.path.join(SAMPLES, "cat.jpg")), tmp_path / "crane" / "1.jpg")
    error = mlcli("classify", tmp_path, "--evaluate", status=1).stderr
    assert "n02012849" in error and "n03126707" in error and "wading bird" in error


def test_with_its_flipped_copy_an_image_is_classified_as_its_flipped_copy_is(tmp_path):
    cat = Image.open(os.path.join(SAMPLES, "cat.jpg")).convert("RGB").resize((48, 48))
    files = [tmp_path / "cat.png", tmp_path / "flipped.png"]
    cat.save(files[0])
    cat.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(files[1])

    def probability(*options) -> list[dict]:
        return [
            {p["label"]: p["probability"] for p in entry["predictions"]}
            for entry in entries(*files, "--model", "cifarnet", "--top-k", 10, "--precision", "fp32", *options)
        ]

    one, other = probability("--flip")
    assert one == pytest.approx(other, abs=1e-5)
    plain, of_flip = probability()
    assert max(abs(plain[label] - of_flip[label]) for label in plain) > 1e-3
    weights = {label: (plain[label] * of_flip[label]) ** 0.5 for label in plain}  # the mean of the logits
    assert one == pytest.approx({label: w / sum(weights.values()) for label, w in weights.items()}, abs=1e-4)
