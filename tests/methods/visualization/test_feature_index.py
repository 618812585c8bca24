import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from mlcli.errors import ImageError, MlcliError, UsageError
from mlcli.methods.visualization import feature_index
from mlcli.methods.visualization.feature_index import Index, made_with, place
from mlcli.models import features, registry
from mlcli.runtime.device import Runtime

MADE = {"model_hash": "1", "layer": "features", "sizes": (1, 2)}


class Counting:
    """The vector of a file is (its size, its first byte, 1); what was computed stands in `asked`."""

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
def pictures(tmp_path):
    folder = tmp_path / "pictures"
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
    """The vectors of the pictures, by name."""
    blocks = list(kept.blocks(kept.places(paths)))
    return {
        paths[place].name: vector.tolist()
        for places, vectors in blocks
        for place, vector in zip(places.tolist(), vectors, strict=True)
    }


def test_only_what_is_new_or_changed_is_computed(pictures):
    kept, computed = updated(pictures)
    assert computed == [f"{n}.png" for n in range(5)]
    expected = {f"{n}.png": [10.0 + n, 65.0 + n, 1.0] for n in range(5)}
    assert contents(kept, listed(pictures)) == contents(opened(pictures), listed(pictures)) == expected
    before = os.stat(pictures / ".index")
    assert updated(pictures)[1] == [] and os.stat(pictures / ".index").st_ino == before.st_ino  # nothing was written

    (pictures / "0.png").write_bytes(b"z" * 50)
    (pictures / "3.png").unlink()
    (pictures / "9.png").write_bytes(b"n")
    status = os.stat(pictures / "1.png")
    (pictures / "1.png").write_bytes(b"q" * status.st_size)  # the same size, a nanosecond later
    os.utime(pictures / "1.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    kept, compute = opened(pictures), Counting()
    assert kept.update(listed(pictures), compute) == (3, 1)
    assert compute.asked == ["0.png", "1.png", "9.png"] and len(kept) == 5
    expected |= {"0.png": [50.0, 122.0, 1.0], "1.png": [11.0, 113.0, 1.0], "9.png": [1.0, 110.0, 1.0]}
    del expected["3.png"]
    assert contents(opened(pictures), listed(pictures)) == expected
    (pictures / "9.png").unlink()
    assert updated(pictures)[1] == [] and len(opened(pictures)) == 4  # what is gone alone is a reason to write
    assert updated(pictures, anew=True)[1] == [f"{n}.png" for n in (0, 1, 2, 4)]


def test_another_model_counts_as_nothing(pictures):
    updated(pictures)
    assert not opened(pictures).outdated and len(opened(pictures)) == 5
    for change in ({"model_hash": "2"}, {"layer": "conv5"}, {"sizes": (1, 3)}):
        kept = opened(pictures, **change)
        assert kept.outdated and len(kept) == 0
        compute = Counting()
        assert kept.update(listed(pictures), compute) == (5, 0) and len(compute.asked) == 5
        assert len(opened(pictures, **change)) == 5
        updated(pictures)


def test_a_picture_that_cannot_be_read_has_no_vector_and_is_tried_again(pictures):
    (pictures / "2.png").write_bytes(b"")
    paths = [*listed(pictures), pictures / "absent.png"]
    kept, computed = updated(pictures, paths=paths)
    assert len(kept) == 4 and len(computed) == 6
    kept, computed = updated(pictures, paths=paths)
    assert computed == ["2.png", "absent.png"] and "2.png" not in contents(kept, paths)


def test_what_has_no_time_of_change_is_computed_each_time(pictures):
    os.mkfifo(pictures / "pipe")

    def compute(paths):
        yield from ((path, torch.ones(3)) for path in paths)

    for _ in range(2):
        kept = opened(pictures)
        assert kept.update([pictures / "pipe"], compute)[0] == 1 and len(kept) == 1


def test_a_folder_is_moved_with_its_index(pictures, tmp_path):
    updated(pictures)
    updated(pictures, file=tmp_path / "elsewhere" / "index")
    moved = tmp_path / "moved"
    pictures.rename(moved)
    assert updated(moved)[1] == []
    assert len(updated(moved, file=tmp_path / "elsewhere" / "index")[1]) == 5  # outside its folder it names them all


def test_pictures_not_asked_for_stay_and_are_not_given(pictures, tmp_path):
    updated(pictures)
    some = [pictures / "4.png", pictures / "0.png"]
    (pictures / "1.png").unlink()
    kept, computed = updated(pictures, paths=some)
    assert computed == [] and len(kept) == 4
    ((places, vectors),) = kept.blocks(kept.places(some))
    assert places.tolist() == [1, 0] and vectors[:, 1].tolist() == [65, 69]
    assert updated(pictures)[1] == []


@pytest.mark.parametrize("block", [1, 2, 100])
def test_blocks(pictures, monkeypatch, block):
    monkeypatch.setattr(feature_index, "BLOCK", block)
    updated(pictures)
    (pictures / "0.png").write_bytes(b"zz")  # so that rows of the file are left out while it is written again
    kept, _ = updated(pictures)
    assert max(len(places) for places, _ in kept.blocks(kept.places(listed(pictures)))) <= block
    assert contents(kept, listed(pictures))["0.png"] == [2, 122, 1] and len(kept) == 5
    assert contents(kept, listed(pictures))["4.png"] == [14, 69, 1]


def test_an_update_cut_short_goes_on(pictures):
    for done in range(1, 5):
        with pytest.raises(KeyboardInterrupt):
            updated(pictures, compute=Counting(stop_after=1))
        assert len(opened(pictures)) == done
    assert updated(pictures)[1] == ["4.png"]


@pytest.mark.parametrize("limit", [{"save_seconds": 0}, {}])
def test_progress_is_saved_while_it_goes_on(pictures, monkeypatch, limit):
    if not limit:
        monkeypatch.setattr(feature_index, "PENDING_BYTES", 12)  # one vector is held, the second is too much
    seen = []

    class Watching(Counting):
        def __call__(self, paths):
            for answer in super().__call__(paths):
                seen.append(len(opened(pictures)))  # what another process would find
                yield answer

    updated(pictures, compute=Watching(), **limit)
    assert seen == ([0, 1, 2, 3, 4] if limit else [0, 0, 2, 2, 4])


def test_the_file_is_plain_safetensors(pictures):
    updated(pictures)
    with safe_open(pictures / ".index", "pt") as file:
        assert set(file.keys()) == {"names", "marks", "vectors"}
        assert file.get_tensor("vectors").shape == (5, 3) and file.get_tensor("vectors").dtype == torch.float32
        assert file.get_tensor("names").numpy().tobytes() == b"0.png\x001.png\x002.png\x003.png\x004.png\x00"
        status = os.stat(pictures / "3.png")
        assert file.get_tensor("marks")[3].tolist() == [status.st_size, status.st_mtime_ns]
    first = (pictures / ".index").read_bytes()
    assert int.from_bytes(first[:8], "little") % 8 == 0  # values of 8 bytes are aligned
    updated(pictures, anew=True)
    assert (pictures / ".index").read_bytes() == first
    assert sorted(entry.name for entry in pictures.iterdir())[0] == ".index"  # and no unfinished file


@pytest.mark.skipif(sys.platform == "darwin", reason="file names there are always UTF-8")
def test_names_that_are_no_utf8(pictures):
    odd = Path(os.fsdecode(os.fsencode(pictures) + b"/caf\xe9\n.png"))
    odd.write_bytes(b"odd")
    updated(pictures)
    kept, computed = updated(pictures)
    assert computed == [] and contents(kept, listed(pictures))[odd.name] == [3, 111, 1]


def test_what_is_no_index_is_never_overwritten(pictures):
    file = pictures / "0.png"
    with pytest.raises(UsageError, match=r"0\.png: cannot be read as an index"):
        opened(pictures, file=file)
    weights = pictures / "w.safetensors"
    from safetensors.torch import save_file

    save_file({"a": torch.ones(1)}, weights)
    with pytest.raises(UsageError, match="is no index"):
        opened(pictures, file=weights)
    updated(pictures)
    whole = (pictures / ".index").read_bytes()
    for cut in (4, len(whole) - 3):
        (pictures / ".index").write_bytes(whole[:cut])
        with pytest.raises(UsageError, match="remove it or name another file"):
            opened(pictures)


def test_a_place_that_cannot_be_written_is_said_before_any_work(pictures):
    compute = Counting()
    with pytest.raises(MlcliError, match="cannot be written"):
        Index("/dev/null/index", MADE).update(listed(pictures), compute)
    assert compute.asked == []


# -- where it lies ---------------------------------------------------------------------------------------------------


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


def test_in_the_folder_or_in_the_cache_of_the_user(pictures, tmp_path, model, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    layer = features.hidden(model)
    beside = pictures / ".vectors-cifarnet-features.safetensors"
    paths = listed(pictures)
    assert place([str(pictures)], paths, model, layer, FP32) == (beside, None)
    several, none = place([str(path) for path in paths], paths, model, layer, FP32)
    assert several.parent == tmp_path / "cache" / "mlcli" and none is None
    assert place(["-"], paths, model, layer, FP32) == (several, None)
    assert place([str(pictures), "x.png"], [*paths, Path("x.png")], model, layer, FP32)[0] != several

    def read_only(path):
        if Path(path).parent == pictures:
            raise MlcliError("read-only")

    monkeypatch.setattr(feature_index, "check_writable", read_only)
    assert place([str(pictures)], paths, model, layer, FP32) == (several, None)
    kept = Index(beside, MADE)
    kept._write([], {str(path): torch.ones(3) for path in paths}, [feature_index._mark(str(path)) for path in paths])
    assert place([str(pictures)], paths, model, layer, FP32) == (several, beside)
    kept = Index(several, MADE, beside)
    (pictures / "5.png").write_bytes(b"new")
    compute = Counting()
    kept.update(listed(pictures), compute)
    assert compute.asked == ["5.png"] and len(Index(several, MADE)) == 6 and len(Index(beside, MADE)) == 5
    assert place([str(pictures)], listed(pictures), model, layer, FP32) == (several, None)


def test_no_two_models_or_precisions_share_a_file(pictures, tmp_path, model):
    layer, paths = features.hidden(model), listed(pictures)

    def name(runtime=FP32, weights=None, **changed):
        return place([str(pictures)], paths, replace(model, **changed), layer, runtime, weights)[0].name

    runs = [tmp_path / parent / "run" for parent in "ab"]
    for run in runs:
        run.mkdir(parents=True)
        (run / "model.safetensors").touch()
    names = [name(), name(Runtime(CPU, "bf16")), name(weights="w.pth"), name(weights="v.pth")]
    names += [name(name="timm/resnet50"), name(name="resnet50"), *(name(name=str(run)) for run in runs)]
    assert len(set(names)) == len(names)
    assert name(name=str(runs[0])).startswith(".vectors-run-features-") and name(name=f"{runs[0]}/") == names[-2]
    assert name(name="timm/resnet50") == ".vectors-timm_resnet50-features.safetensors"


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
def test_what_an_index_may_hold(pictures, changes):
    import json

    from safetensors.torch import save_file

    description = json.dumps({"kind": feature_index.KIND, "made_with": json.loads(json.dumps(MADE))})
    save_file(VALID, pictures / ".index", {"mlcli": description})
    assert len(opened(pictures)) == 2
    parts = {**VALID, **changes}
    description = parts.pop("mlcli", description)
    save_file({n: t for n, t in parts.items() if t is not None}, pictures / ".index", {"mlcli": description})
    with pytest.raises(UsageError, match=r"\.index: cannot be read as an index .*; remove it or name another file"):
        opened(pictures)


def test_vectors_of_another_length_are_said(pictures):
    kept, _ = updated(pictures)
    kept.require_width(3)
    with pytest.raises(UsageError, match="its vectors have 3 values, 4 are computed"):
        opened(pictures).require_width(4)
    Index(pictures / "none", MADE).require_width(4)
