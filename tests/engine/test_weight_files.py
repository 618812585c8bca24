"""Fetching and reading files of weights; more of reading is in test_models."""

import http.client
import io
import pickle
import urllib.error

import pytest
import torch

from mlcli.engine.weight_files import download, read_tensors, weights_path
from mlcli.errors import WeightsError

LIGHT = "squeezenet1_1"  # a torchvision classifier
HARMED = "harmed"


class Harm:
    def __reduce__(self):
        return open, (HARMED, "w")


def test_code_in_a_file_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.conv.weight": Harm()}, "evil.pth")
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Harm(), protocol=2))
    for file in ("evil.pth", "evil.pt"):
        with pytest.raises(WeightsError, match=f"{file}: .*code in it, which is never run"):
            read_tensors(file)
    assert not (tmp_path / HARMED).exists()


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("Name or service not known"),
        urllib.error.HTTPError("https://example.org", 403, "Forbidden", {}, None),
        TimeoutError("timed out"),
        http.client.IncompleteRead(b""),
        RuntimeError('invalid hash value (expected "b8a52dc0", got "00")'),
    ],
)
def test_no_network_says_what_to_put_where(error, monkeypatch, tmp_path):
    def fail(*_, **__):
        raise error

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(WeightsError) as raised:
        download(LIGHT)
    file = weights_path(LIGHT)
    for part in (f"https://download.pytorch.org/models/{file.name}", str(file), "--weights"):
        assert part in str(raised.value)
    assert not list(file.parent.iterdir())


def test_a_wrong_download_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", lambda _: Answer(b"<html>log in first</html>"))
    with pytest.raises(WeightsError, match="invalid hash value"):
        download(LIGHT)
    assert not list((tmp_path / "hub" / "checkpoints").iterdir())


class Answer(io.BytesIO):
    def info(self):
        return http.client.HTTPMessage()
