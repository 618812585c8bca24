import resource

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image

from mlcli.data.preprocessing import Preprocessing, shorten
from mlcli.imaging import image_io
from mlcli.models.sources.timm_models import TIMM
from mlcli.models.sources.torchvision_models import TORCHVISION

SHAPES = [(300, 400), (401, 263), (1, 1), (3, 96), (37, 2), (224, 224), (256, 256), (257, 300), (640, 480), (5, 5)]


@pytest.mark.parametrize(
    "name", ["resnet50", "squeezenet1_1", "inception_v3", "vit_b_16", "efficientnet_b0", "maxvit_t"]
)
def test_prepare_and_normalize_are_torchvisions_transforms(name):
    transforms = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    with torch.device("meta"):
        preprocessing = TORCHVISION.architecture(name).pretrained().preprocessing
    torch.manual_seed(0)
    for shape in SHAPES:
        image = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
        prepared = preprocessing.prepare(image)
        assert prepared.dtype == torch.uint8
        _assert_as_by_pillow(preprocessing, image, transforms)


def _assert_as_by_pillow(preprocessing, image, transform):
    """At most one value of twenty differs from what the transform makes of an image of Pillow, and by two levels."""
    expected = transform(Image.fromarray(image.permute(1, 2, 0).numpy()))
    found = preprocessing.normalize(preprocessing.prepare(image)[None])[0]
    differ = (found - expected).abs() > 1e-6
    assert differ.double().mean() < 0.05  # bytes from weights of 16 bits, where Pillow's have 22
    torch.testing.assert_close(found, expected, atol=2 / 255 / min(preprocessing.std) + 1e-6, rtol=0)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_in_floats_an_image_is_resized_as_by_torchvision_with_tensors(interpolation):
    mode = torchvision.transforms.InterpolationMode(interpolation)
    preprocessing = Preprocessing(256, 224, interpolation=interpolation)
    transforms = torchvision.transforms._presets.ImageClassification(
        crop_size=224, mean=preprocessing.mean, std=preprocessing.std, interpolation=mode
    )
    torch.manual_seed(0)
    for shape in SHAPES:
        image = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
        prepared = preprocessing.prepare(image)
        torch.testing.assert_close(preprocessing.normalize(prepared[None])[0], transforms(image), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet50.a1_in1k", "test_vit", "vit_base_patch16_clip_224"])
def test_prepare_and_normalize_are_timms_transforms(name):
    configuration = timm.get_pretrained_cfg(name).to_dict()
    settings = timm.data.resolve_data_config(pretrained_cfg=configuration)
    transform = timm.data.create_transform(**settings, is_training=False)
    preprocessing = TIMM.architecture(f"timm/{name}").pretrained().preprocessing
    for seed, shape in enumerate([(300, 400), (401, 263), (640, 480), (257, 300)]):
        torch.manual_seed(seed)
        smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 12), shape, mode="bicubic")[0]
        image = (smooth.clamp(0, 1) * 255).round().to(torch.uint8)
        _assert_as_by_pillow(preprocessing, image, transform)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_an_image_is_prepared_the_same_however_it_lies_in_memory(interpolation):
    torch.manual_seed(0)
    image = torch.randint(0, 256, (3, 90, 70), dtype=torch.uint8)
    by_pixels = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for resampling in ("torch", "pillow"):
        preprocessing = Preprocessing(resize=40, crop=32, interpolation=interpolation, resampling=resampling)
        prepared = preprocessing.prepare(by_pixels)
        assert prepared.is_contiguous()
        assert torch.equal(prepared, preprocessing.prepare(image))


def test_normalize_leaves_its_images_alone():
    for images in (torch.rand(2, 3, 4, 4), torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)):
        before = images.clone()
        Preprocessing().normalize(images)
        assert torch.equal(images, before)


@pytest.mark.parametrize(
    "preprocessing, side", [(Preprocessing(resize=256, crop=224), 600), (Preprocessing(resize=320, crop=320), 1200)]
)
def test_of_large_jpegs_no_more_is_read_than_resizing_needs(tmp_path, preprocessing, side):
    smooth = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    Image.fromarray(smooth).resize((1600, 1200), Image.Resampling.BICUBIC).save(tmp_path / "a.jpg", quality=95)
    read = preprocessing.read(tmp_path / "a.jpg")
    assert min(read.shape[1:]) == side
    whole = preprocessing.prepare(image_io.read(tmp_path / "a.jpg"))
    assert (preprocessing.prepare(read).float() - whole.float()).abs().mean() < 1


def test_a_squashed_image_is_whole():
    preprocessing = Preprocessing(resize=8, crop=8, squash=True)
    image = torch.zeros(3, 40, 80, dtype=torch.uint8)
    image[:, :, :40] = 200
    prepared = preprocessing.prepare(image)
    assert prepared.shape == (3, 8, 8)
    assert (prepared[:, :, :3] == 200).all() and (prepared[:, :, 5:] == 0).all()
    assert preprocessing.source_box((0, 0, 8, 8), 40, 80) == (0, 0, 80, 40)
    assert preprocessing.source_box((2, 4, 4, 8), 40, 80) == (20, 20, 40, 40)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_floats_stay_floats_in_range(interpolation):
    preprocessing = Preprocessing(resize=20, crop=16, interpolation=interpolation)
    image = (torch.rand(3, 10, 12) > 0.5).float()  # steps, at which bicubic overshoots
    prepared = preprocessing.prepare(image)
    assert prepared.dtype == torch.float32 and prepared.shape == (3, 16, 16)
    assert prepared.min() >= 0 and prepared.max() <= 1
    of_bytes = preprocessing.prepare(image_io.to_bytes(image))
    assert (image_io.to_unit(of_bytes) - prepared).abs().max() <= 0.5 / 255 + 1e-6


def test_without_resize_images_are_what_training_saw():
    image = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8)
    assert torch.equal(Preprocessing(crop=24).prepare(image), image_io.fit(image, 24))


def test_gray():
    image = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)
    preprocessing = Preprocessing(crop=32, mean=(0.5,), std=(0.25,), channels=1)
    prepared = preprocessing.prepare(image)
    assert torch.equal(prepared, image_io.to_gray(image_io.fit(image, 32)))
    normal = preprocessing.normalize(prepared[None])
    assert normal.shape == (1, 1, 32, 32) and torch.allclose(normal, (prepared / 255 - 0.5) / 0.25)


@pytest.mark.parametrize("shape", [(1, 10_000), (10_000, 1), (2, 100_001), (3, 30_000)])
def test_a_strip_takes_no_gigabytes(shape):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    image = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    assert Preprocessing(resize=256, crop=224).prepare(image).shape == (3, 224, 224)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 * 1024


@pytest.mark.parametrize("shape", [(2, 101), (2, 100), (101, 3), (100, 3)])
def test_the_ends_of_a_strip_are_cut_equally(shape):
    positions = torch.stack(torch.meshgrid(*map(torch.arange, shape), indexing="ij")).float()
    cut = shorten(positions, 8)
    assert sorted(cut.shape[1:])[1] in (8 * min(shape), 8 * min(shape) + 1)
    assert torch.equal(cut.mean((1, 2)), positions.mean((1, 2)))
    assert shorten(positions, 51) is positions


def test_a_strip_shows_the_same_middle_as_it_would_whole():
    ramp = torch.linspace(0, 1, 4001).expand(3, 8, -1)
    whole = Preprocessing(resize=16, crop=16)
    direct = torchvision.transforms.functional.center_crop(torchvision.transforms.functional.resize(ramp, 16), 16)
    assert (whole.prepare(ramp) - direct).abs().max() < 1 / 4000  # half a pixel of the strip


# -- back to the file's pixels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "preprocessing, shape, box, expected",
    [
        # the square of 60 from column 20 on, to 12: 5 pixels each
        (Preprocessing(crop=12), (60, 100), (0, 0, 12, 12), (20, 0, 80, 60)),
        (Preprocessing(crop=12), (100, 60), (1, 2, 4, 3), (5, 30, 20, 35)),
        # to 24: 2.5 pixels each, outwards
        (Preprocessing(crop=24), (60, 100), (1, 3, 2, 6), (22, 7, 25, 15)),
        (Preprocessing(crop=24), (12, 13), (1, 0, 2, 3), (0, 0, 1, 2)),  # enlarged
        (Preprocessing(crop=16), (16, 16), (3, 4, 5, 6), (3, 4, 5, 6)),
        # 30 x 60 to 20 x 40, of which the middle 10 x 10: 1.5 pixels each from (5 * 1.5, 15 * 1.5) on
        (Preprocessing(resize=20, crop=10), (30, 60), (0, 0, 10, 10), (22, 7, 38, 23)),
        (Preprocessing(resize=20, crop=10), (60, 30), (2, 1, 4, 3), (10, 24, 14, 27)),
        (Preprocessing(resize=20, crop=20), (20, 20), (2, 1, 4, 3), (2, 1, 4, 3)),
        # a strip loses 18 columns at each end; 64 are left, to 128, of which the middle 4
        (Preprocessing(resize=4, crop=4), (2, 100), (0, 0, 4, 4), (49, 0, 51, 2)),
    ],
)
def test_boxes_of_the_source(preprocessing, shape, box, expected):
    assert preprocessing.source_box(box, *shape) == expected


@pytest.mark.parametrize("preprocessing", [Preprocessing(crop=32), Preprocessing(resize=41, crop=32)])
@pytest.mark.parametrize("shape", [(300, 400), (401, 263), (33, 500), (500, 7), (64, 64), (20, 31)])
def test_a_box_of_the_source_lies_around_what_its_pixels_show(preprocessing, shape):
    rows, columns = torch.meshgrid(*(torch.arange(n) + 0.5 for n in shape), indexing="ij")
    scale = max(shape)
    shown = preprocessing.prepare(torch.stack([rows, columns, rows]) / scale) * scale  # where each pixel came from
    for y, x in ((5, 16), (16, 9), (26, 25)):  # away from the edges, at which the filters have one side only
        left, top, right, bottom = preprocessing.source_box((x, y, x + 1, y + 1), *shape)
        row, column = shown[:2, y, x].tolist()
        for start, center, end, step in (
            (top, row, bottom, (shown[0, y + 1, x] - shown[0, y, x]).item()),
            (left, column, right, (shown[1, y, x + 1] - shown[1, y, x]).item()),
        ):
            exact = center - step / 2, center + step / 2
            assert exact[0] - 1.1 < start <= exact[0] + 0.1
            assert exact[1] - 0.1 <= end < exact[1] + 1.1
