import json
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from mlcli.errors import ImageError, MlcliError, UsageError
from mlcli.methods.visualization.index import feature_index
from mlcli.methods.visualization.index.feature_index import Index, made_with
from mlcli.methods.visualization.index.vector_journal import VectorJournal
from mlcli.models import registry
from mlcli.models.structure import features
from mlcli.runtime.device import Runtime

MADE = {"model_hash": "1", "layer": "features", "sizes": (1, 2)}


class Counting:
    """The vector of a file is (its size, its first byte, 1). `asked` lists the files whose vectors were computed."""

    def __init__(self, stop_after=None):
        self.asked, self.stop_after = [], stop_after

    def __call__(self, paths):
        for path in paths:
            if len(self.asked) == self.stop_after:
                raise KeyboardInterrupt
            self.asked.append(Path(path).name)
            data = Path(path).read_bytes() if Path(path).exists() else b""
            yield path, torch.tensor([len(data), data[0], 1.0]) if data else ImageError(f"{path}: empty")


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").write_bytes(bytes([65 + number]) * (10 + number))
    return folder


def listed(folder):
    return sorted(folder.glob("*.png"))


def opened(folder, file=None, **changes):
    return Index(file or folder / ".index", MADE | changes)


def updated(folder, file=None, compute=None, paths=None, **options):
    """(the index, what was computed for it)"""
    kept, compute = opened(folder, file), compute or Counting()
    kept.update(listed(folder) if paths is None else paths, compute, **options)
    return kept, compute.asked


def contents(kept, paths):
    """The vectors of the images, by name."""
    blocks = list(kept.blocks(kept.positions(paths)))
    return {
        paths[position].name: vector.tolist()
        for positions, vectors in blocks
        for position, vector in zip(positions.tolist(), vectors, strict=True)
    }


def test_only_what_is_new_or_changed_is_computed(images):
    kept, computed = updated(images)
    assert computed == [f"{n}.png" for n in range(5)]
    expected = {f"{n}.png": [10.0 + n, 65.0 + n, 1.0] for n in range(5)}
    assert contents(kept, listed(images)) == contents(opened(images), listed(images)) == expected
    before = os.stat(images / ".index")
    assert updated(images)[1] == [] and os.stat(images / ".index").st_ino == before.st_ino  # nothing was written

    (images / "0.png").write_bytes(b"z" * 50)
    (images / "3.png").unlink()
    (images / "9.png").write_bytes(b"n")
    status = os.stat(images / "1.png")
    (images / "1.png").write_bytes(b"q" * status.st_size)  # the same size, a nanosecond later
    os.utime(images / "1.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    kept, compute = opened(images), Counting()
    assert kept.update(listed(images), compute) == (3, 1)
    assert compute.asked == ["0.png", "1.png", "9.png"] and len(kept) == 5
    expected |= {"0.png": [50.0, 122.0, 1.0], "1.png": [11.0, 113.0, 1.0], "9.png": [1.0, 110.0, 1.0]}
    del expected["3.png"]
    assert contents(opened(images), listed(images)) == expected
    (images / "9.png").unlink()
    assert updated(images)[1] == [] and len(opened(images)) == 4  # what is gone alone is a reason to write
    assert updated(images, recompute=True)[1] == [f"{n}.png" for n in (0, 1, 2, 4)]


def test_another_model_counts_as_nothing(images):
    updated(images)
    assert not opened(images).outdated and len(opened(images)) == 5
    for change in ({"model_hash": "2"}, {"layer": "conv5"}, {"sizes": (1, 3)}):
        kept = opened(images, **change)
        assert kept.outdated and len(kept) == 0
        compute = Counting()
        assert kept.update(listed(images), compute) == (5, 0) and len(compute.asked) == 5
        assert len(opened(images, **change)) == 5
        updated(images)


def test_an_image_that_cannot_be_read_has_no_vector_and_is_tried_again(images):
    (images / "2.png").write_bytes(b"")
    paths = [*listed(images), images / "absent.png"]
    kept, computed = updated(images, paths=paths)
    assert len(kept) == 4 and len(computed) == 6
    kept, computed = updated(images, paths=paths)
    assert computed == ["2.png", "absent.png"] and "2.png" not in contents(kept, paths)


def test_what_has_no_time_of_change_is_computed_each_time(images):
    os.mkfifo(images / "pipe")

    def compute(paths):
        yield from ((path, torch.ones(3)) for path in paths)

    for _ in range(2):
        kept = opened(images)
        assert kept.update([images / "pipe"], compute)[0] == 1 and len(kept) == 1


def test_a_folder_is_moved_with_its_index(images, tmp_path):
    updated(images)
    updated(images, file=tmp_path / "elsewhere" / "index")
    moved = tmp_path / "moved"
    images.rename(moved)
    assert updated(moved)[1] == []
    assert len(updated(moved, file=tmp_path / "elsewhere" / "index")[1]) == 5  # outside its folder it names them all


def test_images_not_asked_for_stay_and_are_not_given(images, tmp_path):
    updated(images)
    some = [images / "4.png", images / "0.png"]
    (images / "1.png").unlink()
    kept, computed = updated(images, paths=some)
    assert computed == [] and len(kept) == 4
    ((positions, vectors),) = kept.blocks(kept.positions(some))
    assert positions.tolist() == [1, 0] and vectors[:, 1].tolist() == [65, 69]
    assert updated(images)[1] == []


@pytest.mark.parametrize("block", [1, 2, 100])
def test_blocks(images, monkeypatch, block):
    monkeypatch.setattr(feature_index, "BLOCK", block)
    updated(images)
    (images / "0.png").write_bytes(b"zz")  # so that rows of the file are left out while it is written again
    kept, _ = updated(images)
    assert max(len(positions) for positions, _ in kept.blocks(kept.positions(listed(images)))) <= block
    assert contents(kept, listed(images))["0.png"] == [2, 122, 1] and len(kept) == 5
    assert contents(kept, listed(images))["4.png"] == [14, 69, 1]


def test_an_interrupted_update_resumes(images):
    for done in range(1, 5):
        with pytest.raises(KeyboardInterrupt):
            updated(images, compute=Counting(stop_after=1))
        assert len(opened(images)) == done
    assert updated(images)[1] == ["4.png"]


@pytest.mark.parametrize("limit", [{"save_seconds": 0}, {}])
def test_an_update_saves_its_progress(images, monkeypatch, limit):
    if not limit:
        monkeypatch.setattr(feature_index, "PENDING_BYTES", 12)  # one vector is held, the second is too much
    seen = []
    journal = VectorJournal(images / ".index", json.loads(json.dumps(MADE)))

    class Watching(Counting):
        def __call__(self, paths):
            for computed in super().__call__(paths):
                seen.append(sum(len(block.names) for block in journal.blocks()))  # what a kill would leave
                yield computed

    updated(images, compute=Watching(), **limit)
    assert seen == ([0, 1, 2, 3, 4] if limit else [0, 0, 2, 2, 4])


@pytest.mark.parametrize("torn", [b"", b"\x01", b"\x02" + bytes(60)])
def test_what_a_killed_update_has_computed_is_not_computed_again(images, tmp_path, monkeypatch, torn):
    updated(images, file=tmp_path / "whole")
    file = tmp_path / "broken"
    with monkeypatch.context() as patch:
        patch.setattr(Index, "_join", lambda *_: None)  # killed before the end
        with pytest.raises(KeyboardInterrupt):
            updated(images, file=file, compute=Counting(stop_after=3), save_seconds=0)
    assert len(opened(images, file)) == 0
    with open(tmp_path / "broken.new", "ab") as journal:
        journal.write(torn)
    (images / "1.png").write_bytes(b"changed since")
    assert updated(images, file=file)[1] == ["1.png", "3.png", "4.png"]
    assert updated(images, file=tmp_path / "whole")[1] == ["1.png"]
    one, other = opened(images, file), opened(images, tmp_path / "whole")
    assert contents(one, listed(images)) == contents(other, listed(images)) and len(one) == len(other) == 5
    assert sorted(os.listdir(tmp_path)) == ["broken", "images", "whole"]


def test_the_journal_of_another_model_is_not_taken(images, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Index, "_join", lambda *_: None)
        updated(images)
    kept, compute = opened(images, model_hash="2"), Counting()
    assert kept.update(listed(images), compute) == (5, 0) and len(compute.asked) == 5
    assert not os.path.exists(images / ".index.new")


def test_the_file_is_plain_safetensors(images):
    updated(images)
    with safe_open(images / ".index", "pt") as file:
        assert set(file.keys()) == {"names", "marks", "vectors"}
        assert file.get_tensor("vectors").shape == (5, 3) and file.get_tensor("vectors").dtype == torch.float32
        assert file.get_tensor("names").numpy().tobytes() == b"0.png\x001.png\x002.png\x003.png\x004.png\x00"
        status = os.stat(images / "3.png")
        assert file.get_tensor("marks")[3].tolist() == [status.st_size, status.st_mtime_ns]
    first = (images / ".index").read_bytes()
    assert int.from_bytes(first[:8], "little") % 8 == 0  # values of 8 bytes are aligned
    updated(images, recompute=True)
    assert (images / ".index").read_bytes() == first
    assert sorted(entry.name for entry in images.iterdir())[0] == ".index"  # and no unfinished file


@pytest.mark.skipif(sys.platform == "darwin", reason="file names there are always UTF-8")
def test_names_that_are_no_utf8(images):
    odd = Path(os.fsdecode(os.fsencode(images) + b"/caf\xe9\n.png"))
    odd.write_bytes(b"odd")
    updated(images)
    kept, computed = updated(images)
    assert computed == [] and contents(kept, listed(images))[odd.name] == [3, 111, 1]


def test_what_is_no_index_is_never_overwritten(images):
    file = images / "0.png"
    with pytest.raises(UsageError, match=r"0\.png: cannot be read as an index"):
        opened(images, file=file)
    weights = images / "w.safetensors"
    from safetensors.torch import save_file

    save_file({"a": torch.ones(1)}, weights)
    with pytest.raises(UsageError, match="is not an index"):
        opened(images, file=weights)
    updated(images)
    whole = (images / ".index").read_bytes()
    for cut in (4, len(whole) - 3):
        (images / ".index").write_bytes(whole[:cut])
        with pytest.raises(UsageError, match="remove it or name another file"):
            opened(images)


def test_a_file_that_cannot_be_written_is_an_error_before_any_work(images):
    compute = Counting()
    with pytest.raises(MlcliError, match="cannot be written"):
        Index("/dev/null/index", MADE).update(listed(images), compute)
    assert compute.asked == []


# -- default file ----------------------------------------------------------------------------------------------------


CPU = torch.device("cpu")
FP32 = Runtime(CPU, "fp32")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return registry.create("cifarnet", ["a", "b"], 16)


def test_what_vectors_depend_on(model):
    layer = features.hidden(model)
    first = made_with(model, layer, FP32)
    assert made_with(model, features.resolve(model, "conv2"), FP32) != first
    assert made_with(model, layer, Runtime(CPU, "bf16")) != first
    with torch.no_grad():
        model.network.conv1.conv.weight[0, 0, 0, 0] += 1
    del model.hash
    assert made_with(model, layer, FP32) != first


VALID = {
    "vectors": torch.zeros(2, 3),
    "marks": torch.zeros(2, 2, dtype=torch.int64),
    "names": torch.tensor(list(b"a\0b\0"), dtype=torch.uint8),
}


@pytest.mark.parametrize(
    "changes",
    [
        {"vectors": torch.zeros(2)},
        {"vectors": torch.zeros(3, 3)},
        {"vectors": torch.zeros(2, 3, dtype=torch.float64)},
        {"vectors": None},
        {"marks": torch.zeros(2, 3, dtype=torch.int64)},
        {"marks": torch.zeros(2, 2)},
        {"marks": torch.tensor(5)},
        {"names": torch.zeros(4, dtype=torch.int32)},
        {"names": torch.zeros(0, dtype=torch.uint8)},
        {"names": torch.zeros(2, 2, dtype=torch.uint8)},
        {"mlcli": "[]"},
        {"mlcli": "{"},
        {"mlcli": '{"kind": "index of feature vectors"}'},
        {"mlcli": '{"kind": "index of feature vectors", "made_with": 5}'},
    ],
)
def test_what_an_index_may_hold(images, changes):
    import json

    from safetensors.torch import save_file

    description = json.dumps({"kind": feature_index.KIND, "made_with": json.loads(json.dumps(MADE))})
    save_file(VALID, images / ".index", {"mlcli": description})
    assert len(opened(images)) == 2
    parts = {**VALID, **changes}
    description = parts.pop("mlcli", description)
    save_file({n: t for n, t in parts.items() if t is not None}, images / ".index", {"mlcli": description})
    with pytest.raises(UsageError, match=r"\.index: cannot be read as an index .*; remove it or name another file"):
        opened(images)


def test_vectors_of_another_length_are_an_error(images):
    kept, _ = updated(images)
    kept.require_width(3)
    with pytest.raises(UsageError, match="its vectors have 3 values, 4 are computed"):
        opened(images).require_width(4)
    Index(images / "none", MADE).require_width(4)
