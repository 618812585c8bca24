import io

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from torch import nn

from mlcli.models.exports import onnx_file


@pytest.mark.parametrize("free, fixed", [({0: "batch"}, True), ({0: "batch", 2: "height", 3: "width"}, False)])
@pytest.mark.parametrize("pooling", [False, True])
def test_tensorflows_padding_is_constant_where_images_have_one_size(free, fixed, pooling):
    torch.manual_seed(0)
    first = timm.layers.create_pool2d("max", 3, 2, padding="same") if pooling else nn.Identity()
    network = nn.Sequential(first, timm.layers.create_conv2d(3, 4, 3, stride=2, padding="same")).eval()
    images = torch.rand(2, 3, 18, 21)
    content = onnx_file.encoded(network, {"images": images}, ["values"], {"images": free, "values": free})
    kinds = {node.op_type for node in onnx.load(io.BytesIO(content)).graph.node}
    assert ("Shape" not in kinds) == fixed
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for given in [images] if fixed else [images, torch.rand(1, 3, 25, 14)]:
        (found,) = session.run(None, {"images": given.numpy()})
        np.testing.assert_allclose(found, network(given).detach().numpy(), atol=1e-5)
