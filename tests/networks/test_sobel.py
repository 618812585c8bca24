import torch

from mlcli.networks.sobel import Sobel


def test_a_slope_has_its_own_gradient():
    rows, columns = torch.arange(8.0)[:, None], torch.arange(9.0)[None]
    slope = (0.03 * columns - 0.04 * rows + 0.5).expand(1, 3, 8, 9)
    network = Sobel()
    gradient, length = network.gradient(slope)[..., 1:-1, 1:-1], network(slope)[..., 1:-1, 1:-1]
    torch.testing.assert_close(gradient[0, 0], torch.full((6, 7), 0.03))
    torch.testing.assert_close(gradient[0, 1], torch.full((6, 7), -0.04))
    torch.testing.assert_close(length[0, 0], torch.full((6, 7), 0.05))


def test_green_counts_more_than_blue():
    edge = torch.zeros(2, 3, 6, 6)
    edge[0, 1, :, 3:] = edge[1, 2, :, 3:] = 1
    green, blue = Sobel()(edge)[:, 0, 3, 3]
    torch.testing.assert_close(torch.stack([green, blue]), torch.tensor([0.587, 0.114]) / 2)
