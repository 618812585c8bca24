import torch
from torch import nn

from mlcli.networks.padding import ReflectionPad2d, reflection_padded


def test_reflection_padded_flips_are_the_reflection_of_torch():
    x = torch.rand(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    expected = nn.ReflectionPad2d((1, 3, 2, 4))(x)
    padded = reflection_padded(x, 1, 3, 2, 4)
    assert torch.equal(padded, expected) and torch.equal(ReflectionPad2d((1, 3, 2, 4))(x), expected)
    weights = torch.rand_like(padded)
    ours, theirs = (torch.autograd.grad((weights * each).sum(), x)[0] for each in (padded, expected))
    torch.testing.assert_close(ours, theirs)
