import torch
import torchvision

from mlcli.models import lookalikes, registry


def state(name, classes):
    with torch.device("meta"):
        return torchvision.models.get_model(name, num_classes=classes).state_dict()


def test_torchvisions_architectures_are_known_whatever_their_classes():
    assert lookalikes.advice(state("resnet34", 37), "resnet18") == "; it looks like --model resnet34"
    assert lookalikes.advice(state("squeezenet1_0", 1000), "squeezenet1_1") == "; it looks like --model squeezenet1_0"
    wrapped = {f"module.{key}": tensor for key, tensor in state("vgg11_bn", 2).items()}
    assert lookalikes.advice(wrapped, "cifarnet") == "; it looks like --model vgg11_bn"


def test_timms_are_known_where_their_names_are_near():
    tensors = registry.create("timm/test_vit2", ["a", "b"], 160).network.state_dict()
    assert "--model timm/test_vit2" in lookalikes.advice(tensors, "timm/test_vit")


def test_nothing_is_said_of_what_nobody_knows():
    assert lookalikes.advice({"a.weight": torch.ones(2, 2)}, "resnet18") == ""
    assert lookalikes.advice({"a": torch.ones(2)}, "resnet18") == ""
