import torch

from mlcli.models import registry
from mlcli.reporting import diagnosis
from mlcli.runtime.device import Runtime


def test_the_forward_pass_is_timed_after_one_to_warm_up():
    model = registry.create("cifarnet", ["a"], 16)
    model.network.eval()
    seen = []
    model.network.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0].shape, output.requires_grad)))
    seconds = diagnosis.forward_seconds(model, Runtime(torch.device("cpu"), "fp32"))
    assert seen == [((diagnosis.BATCH, 3, 16, 16), False)] * 2 and 0 < seconds < 10


def test_findings_are_plain_values(monkeypatch):
    monkeypatch.setattr(diagnosis, "BATCH", 2)
    found = diagnosis.diagnose(Runtime.choose("cpu", "auto"))
    for value in found.values():
        assert isinstance(value, (str, int, float, bool)) or all(isinstance(item, str) for item in value)
    assert found["precision"] == ("bf16" if found["native_bf16"] else "fp32")
