"""Both domains in the plane of their principal components."""

import json

import torch

from mlcli.methods.adaptation import projection


def test_the_first_component_has_the_largest_variance():
    random = torch.Generator().manual_seed(0)
    points = projection.principal_components(torch.randn(200, 6, generator=random) * torch.tensor([9, 5, 1, 1, 1, 1.0]))
    assert points.shape == (200, 2) and points[:, 0].var() > 2 * points[:, 1].var()
    assert (points.gather(0, points.abs().argmax(0, keepdim=True)) > 0).all(), "the sign is fixed"


def test_points_are_written_and_read_again():
    random = torch.Generator().manual_seed(0)
    features = [(torch.randn(5, 4, generator=random), torch.randn(3, 4, generator=random)) for _ in range(2)]
    planes = projection.before_and_after(*features)
    again = projection.from_json(json.loads(json.dumps(projection.as_json(planes))))
    assert [each.title for each in again] == ["before adaptation", "after adaptation"]
    for plane, other in zip(planes, again, strict=True):
        assert len(plane.source) == 5 and len(plane.target) == 3
        assert torch.allclose(plane.source, other.source, rtol=1e-3) and torch.allclose(
            plane.target, other.target, rtol=1e-3
        )
