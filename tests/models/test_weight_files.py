"""Fetching files of weights, and filling networks; reading is in test_checkpoints and test_models."""

import http.client
import io
import urllib.error

import pytest
import torch

from mlcli.errors import WeightsError
from mlcli.models.weight_files import download, fill, weights_path

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


def test_a_network_is_filled_in_its_own_precision():
    network, other = torch.nn.BatchNorm2d(2).half(), torch.nn.BatchNorm2d(2)
    other.weight.data.fill_(3)
    tensors = {key: tensor for key, tensor in other.state_dict().items() if key != "num_batches_tracked"}
    fill(network, tensors, "a")
    assert network.weight.dtype == torch.float16 and network.weight.tolist() == [3, 3]


def test_what_does_not_fit_is_named():
    tensors = {"weight": torch.ones(3), "bias": torch.ones(2), "running_mean": torch.ones(2), "scale": torch.ones(1)}
    with pytest.raises(WeightsError) as raised:
        fill(torch.nn.BatchNorm2d(2), tensors, "a.pth")
    assert str(raised.value) == (
        "a.pth: does not fit the network: lacks running_var; has the unknown scale; has other shapes: weight 3 for 2"
    )
