import pytest
import torch

from mlcli.models import registry
from mlcli.training import run_folder


@pytest.fixture(scope="session")
def colors(tmp_path_factory):
    """A run folder with a classifier of blue, green and red squares that is always right."""
    torch.manual_seed(0)
    model = registry.create("cifarnet", ["blue", "green", "red"], 16)
    network = model.network.eval()
    with torch.no_grad():
        # The largest of red, green and blue in the middle pixel of each window, through identity kernels to the end
        network.conv1.conv.weight.zero_()
        for unit, channel in enumerate((2, 1, 0)):
            network.conv1.conv.weight[unit, channel, 3, 3] = 1
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d) and module is not network.conv1.conv:
                torch.nn.init.dirac_(module.weight)
        network.classifier.weight.zero_()
        network.classifier.weight[:, :3] = 20 * torch.eye(3)
        network.classifier.bias.zero_()
    folder = tmp_path_factory.mktemp("colors")
    run_folder.save_tensors(folder / "model.safetensors", network.state_dict(), model.describe())
    (folder / "config.json").write_text("{}")
    return folder
