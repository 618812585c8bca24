"""Downloads of weights."""

import http.client
import io
import urllib.error

import pytest
import torch

from mlcli.errors import WeightsError
from mlcli.models.sources.downloads import download
from mlcli.models.sources.torchvision_models import weights_path

LIGHT = "squeezenet1_1"  # a torchvision classifier


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
        download(LIGHT, f"https://download.pytorch.org/models/{weights_path(LIGHT).name}")
    file = weights_path(LIGHT)
    for part in (f"https://download.pytorch.org/models/{file.name}", str(file), "--weights"):
        assert part in str(raised.value)
    assert not list(file.parent.iterdir())


def test_a_wrong_download_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", lambda _: Answer(b"<html>log in first</html>"))
    with pytest.raises(WeightsError, match="invalid hash value"):
        download(LIGHT, f"https://download.pytorch.org/models/{weights_path(LIGHT).name}")
    assert not list((tmp_path / "hub" / "checkpoints").iterdir())


class Answer(io.BytesIO):
    def info(self):
        return http.client.HTTPMessage()
