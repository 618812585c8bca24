"""Commands read archives as they read the folders that were packed: the same rows, the same weights."""

import json

import pytest

import mlcli
from mlcli.errors import DataError, MlcliError, RunError
from mlcli.methods.learning.supervised import Supervised
from tests.archives import contents, image_bytes, write_tar, write_zip
from tests.cli import mlcli as command
from tests.tiny import class_folders

QUICK = {"epochs": 1, "batch_size": 6, "precision": "fp32", "save_every": 0, "size": 16}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("data") / "classes", per_class=4, size=8, noise=30)


@pytest.fixture(scope="module")
def archives(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    members = contents(data)
    shuffled = {name: members[name] for name in sorted(members, key=lambda name: name[::-1])}
    return [
        write_tar(folder / "a.tar", shuffled),
        write_tar(folder / "a.tar.gz", shuffled, "w:gz"),
        write_zip(folder / "a.zip", shuffled),
    ]


def test_classify_gives_the_same_rows_under_the_names_of_members(data, archives, colors):
    there = mlcli.classify(data, model=colors).as_json()
    for archive in archives:
        found = mlcli.classify(archive, model=colors).as_json()
        assert [row["image"] for row in found] == [row["image"].replace(str(data), str(archive)) for row in there]
        assert [row["predictions"] for row in found] == [row["predictions"] for row in there]
    evaluated = [mlcli.classify(each, model=colors, evaluate=True).as_json() for each in (data, *archives)]
    assert all(each == evaluated[0] for each in evaluated) and evaluated[0]["count"] == 12
    member = archives[0] / "red" / "01.png"
    assert mlcli.classify([member, archives[2] / "blue"], model=colors).predictions[0].image == str(member)
    listed = command(
        "classify", "-", "--model", colors, "--top-k", 1, "--format", "csv", input=f"{member}\n{archives[1]}/blue\n"
    )
    assert str(member) in listed.stdout and listed.stdout.count("a.tar.gz/blue/") == 4


def test_one_line_says_what_was_left_out(colors, tmp_path):
    members = [("../up.png", b"x"), ("in.zip", b"x"), ("empty/1.png", b""), ("empty/2.png", b""), ("note.txt", b"x")]
    file = write_tar(tmp_path / "a.tar", [*members, ("1.png", image_bytes()), ("2.png", b"no image")])
    result = command("classify", file, "--model", colors, "--format", "json", status=1)
    assert [entry["image"] for entry in json.loads(result.stdout)] == [f"{file}/1.png", f"{file}/2.png"]
    lines = result.stderr.splitlines()
    for line in (
        f"{file}: 1 member left out: names that lead out of the archive (../up.png)",
        f"{file}: 2 images of 0 bytes, left out (empty/1.png, empty/2.png)",
        f"{file}/2.png: not an image that Pillow can read",
    ):
        assert sum(line in each for each in lines) == 1, lines
    assert "1 image read; left out: " in lines[-1] and "2 images of 0 bytes" in lines[-1], lines[-1]
    assert "2 members of archives that cannot be taken" in lines[-1] and "1 other file (1 .txt)" in lines[-1]


def test_one_image_can_be_a_member_and_no_archive(archives, tmp_path):
    image = archives[1] / "red" / "00.png"
    quick = {"size": 16, "steps": 1, "model": "cifarnet"}
    assert mlcli.stylize(image, style=archives[0] / "blue" / "00.png", output=tmp_path / "a.png", **quick)
    with pytest.raises(MlcliError, match="a.tar: an archive, where one image is needed; name a member of it"):
        mlcli.stylize(image, style=archives[0], output=tmp_path / "b.png", **quick)


def test_train_gives_the_same_weights(data, archives, tmp_path):
    whole = mlcli.train(data, output=tmp_path / "folder", val=0.25, **QUICK)
    for number, archive in enumerate(archives[1:]):
        run = mlcli.train(archive, output=tmp_path / str(number), val=0.25, **QUICK)
        assert (run.folder / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()


def test_training_from_an_archive_resumes_and_notices_another(data, tmp_path, monkeypatch):
    file = write_tar(tmp_path / "a.tar", contents(data))
    whole = mlcli.train(file, output=tmp_path / "whole", **QUICK)
    step = Supervised.step

    def broken(self, batch, number):
        if number == 1:
            raise MlcliError("a power failure")
        return step(self, batch, number)

    with monkeypatch.context() as patch, pytest.raises(MlcliError, match="a power failure"):
        patch.setattr(Supervised, "step", broken)
        mlcli.train(file, output=tmp_path / "parts", **QUICK)
    members = contents(data)
    first, second = members["red/00.png"], members["red/01.png"]
    write_tar(file, members | {"red/00.png": second, "red/01.png": first})
    with pytest.raises(RunError, match="training data have changed"):
        mlcli.train(file, output=tmp_path / "parts", resume=True)
    with pytest.raises(RunError, match="training data have changed"):
        mlcli.train(file, output=tmp_path / "whole", resume=True)
    write_tar(file, members)
    parts = mlcli.train(file, output=tmp_path / "parts", resume=True)
    assert (parts.folder / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()


def test_train_from_shards_labels_and_a_list(data, tmp_path):
    members = contents(data)
    for number in range(2):
        shard = {name: members[name] for name in list(members)[number::2]}
        write_tar(tmp_path / f"folders-{number}.tar", shard)
        keyed = {}
        for name, content in shard.items():
            key = name.replace("/", "-").removesuffix(".png")
            keyed |= {f"{key}.png": content, f"{key}.cls": name.split("/")[0].encode()}
        write_tar(tmp_path / f"keys-{number}.tar", keyed)
    rows = [f"folders-{n % 2}.tar/{name},{name.split('/')[0]}" for n, name in enumerate(members)]
    (tmp_path / "list.csv").write_text("\n".join(["image,class", *rows]))
    for name in ("folders-{0..1}.tar", "keys-{0..1}.tar", "list.csv"):
        run = mlcli.train(tmp_path / name, output=tmp_path / "runs" / name, **QUICK)
        assert mlcli.classify(data, model=run.folder, evaluate=True).evaluation.count == 12
    with pytest.raises(DataError, match="no such folder"):
        mlcli.train(tmp_path / "folders-{0..2}.tar", output=tmp_path / "absent", **QUICK)


def test_finetune_gives_the_same_weights(data, archives, colors, tmp_path):
    runs = [
        mlcli.finetune(each, output=tmp_path / str(number), model=colors, precision="fp32", copies=0).folder
        for number, each in enumerate((data, archives[0]))
    ]
    first, second = ((run / "model.safetensors").read_bytes() for run in runs)
    assert first == second
    assert (runs[0] / "results.json").read_text() == (runs[1] / "results.json").read_text()


def test_neighbors_are_the_same_and_only_changed_archives_are_computed_again(data, archives, colors, tmp_path):
    options = {"model": str(colors), "k": 3, "index": tmp_path / "index.safetensors"}
    (there,) = mlcli.neighbors(data / "red/00.png", among=data, model=str(colors), k=3).queries
    file = write_tar(tmp_path / "a.tar", contents(data))
    (found,) = mlcli.neighbors(file / "red/00.png", among=file, output=tmp_path / "n.png", **options).queries
    assert [(str(image.relative_to(file)), far) for image, far in found.neighbors] == [
        (str(image.relative_to(data)), far) for image, far in there.neighbors
    ]
    words = ("neighbors", file / "red/00.png", "--among", file, "--model", colors, "--index", options["index"])
    words += ("-o", tmp_path / "n.png", "--overwrite", "--format", "json")
    said = command(*words)
    assert "12 vectors, 0 of them computed now; 0 files gone" in said.stderr
    write_tar(file, contents(data) | {"red/00.png": image_bytes("blue", (8, 8))})
    said = command(*words)
    assert "12 vectors, 12 of them computed now" in said.stderr
    assert "/blue/" in json.loads(said.stdout)[0]["neighbors"][0]["image"]
    mlcli.neighbors(data / "red/00.png", among=archives[1], model=str(colors))  # an index in the user's cache


def test_results_of_members_have_their_paths_in_the_archive(archives, tmp_path):
    made = mlcli.pairs(archives[2] / "red", make="gray", output=tmp_path / "pairs")
    assert made and sorted(path.name for path in (tmp_path / "pairs").rglob("*.png"))[:1] == ["00.png"]


def test_a_parquet_file_is_classified_and_evaluated(colors, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    names = ("blue", "green", "red")
    images = [{"bytes": image_bytes(name, (16, 16)), "path": None} for name in names] * 3
    parquet.write_table(pyarrow.table({"image": images, "label": list(names) * 3}), tmp_path / "a.parquet")
    evaluated = mlcli.classify(tmp_path / "a.parquet", model=colors, evaluate=True).evaluation
    assert evaluated.count == 9 and evaluated.as_json()["accuracy"] == 1
    first = mlcli.classify(tmp_path / "a.parquet", model=colors).predictions[0]
    assert first.image == str(tmp_path / "a.parquet/0000000") and first.classes[0][0] == "blue"
    run = mlcli.train(tmp_path / "a.parquet", output=tmp_path / "run", **QUICK)
    assert mlcli.classify(tmp_path / "a.parquet", model=run.folder, evaluate=True).evaluation.count == 9
