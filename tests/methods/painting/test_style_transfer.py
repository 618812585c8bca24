from dataclasses import replace

import pytest
import torch
import torchvision

from mlcli.errors import TrainingError, UsageError
from mlcli.imaging import image_io
from mlcli.methods.painting import configs, style_transfer
from mlcli.methods.painting.style_losses import Style
from mlcli.methods.painting.style_transfer import EMA, Stylization
from mlcli.models import registry
from mlcli.runtime.device import Runtime

CPU = Runtime(torch.device("cpu"), "fp32")
TINY = replace(configs.CIFARNET, scales=(32, 40), steps=(12, 6))


def stripes(side=40):
    """(3, side, side): red and blue stripes of four pixels."""
    red = ((torch.arange(side) // 4) % 2).float().expand(side, side)
    return torch.stack([red, torch.zeros_like(red), 1 - red])


def smooth(side=48):
    ramp = torch.linspace(0.2, 0.8, side)
    return torch.stack([ramp.expand(side, side), ramp[:, None].expand(side, side), 0 * ramp.expand(side, side) + 0.4])


def begin(config=TINY, content=None, start=None, name="cifarnet"):
    model = registry.load(name, untrained=True).to(CPU)
    extractor = style_transfer.open_layers(model, config, CPU)
    return Stylization(extractor, smooth() if content is None else content, [Style(stripes())], config, start)


def run(work):
    return [progress.losses for progress in work.steps()]


@pytest.mark.parametrize(
    "settings, wanted",
    [
        ({"size": 512, "smallest": 128}, [128, 181, 256, 362, 512]),
        ({"size": 200, "smallest": 96, "factor": 2.0}, [100, 200]),
        ({"size": 64, "smallest": 96}, [64]),
        ({"scales": (40, 30)}, [40, 30]),
    ],
)
def test_scales_from_coarse_to_fine(settings, wanted):
    found = style_transfer.scales(configs.Stylize(steps=(1000, 500), **settings))
    assert [scale.long for scale in found] == wanted
    assert [scale.steps for scale in found] == [1000, 500, 500, 500, 500][: len(found)]


def test_average_pooling():
    layers = (("conv1", 1.0), ("conv2.0.pool", 1.0))
    maps = begin(replace(TINY, style_layers=layers, pooling="average")).extractor.perception.activations(smooth()[None])
    means = maps["conv1"].unflatten(2, (24, 2)).unflatten(4, (24, 2)).mean((3, 5))
    assert torch.allclose(maps["conv2.0.pool"], means, atol=1e-6)
    without = registry.create("resnet18", range(2), 32)
    without.network.maxpool = torch.nn.Identity()
    with pytest.raises(UsageError, match="--pooling average: resnet18 has no max pooling"):
        style_transfer.average_pooling(without)


@pytest.mark.parametrize(
    "optimizer, style_loss, left", [("adam", "gram", 0.6), ("adam", "gaussian", 0.6), ("lbfgs", "gram", 0.85)]
)
def test_the_loss_falls_and_the_image_takes_the_style(optimizer, style_loss, left):
    work = begin(replace(TINY, optimizer=optimizer, style_loss=style_loss, tv=0.0, alpha=0.05, steps=(30, 10)))
    losses = run(work)
    assert losses[29].total < left * losses[0].total and losses[-1].style < left * losses[0].style
    result = work.result()
    assert result.shape == (3, 40, 40) and 0 <= result.min() and result.max() <= 1
    # The content is as smooth across as along; the stripes are not.
    assert result.diff(dim=2).square().mean() > 2 * smooth(40).diff(dim=2).square().mean()


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("stop", [3, 6, 8])  # in the first scale, at its end, in the second
def test_resumed_is_as_if_never_stopped(optimizer, stop, tmp_path):
    config = replace(TINY, optimizer=optimizer, init="noise", steps=(6, 4))
    whole = begin(config)
    run(whole)
    first = begin(config)
    for progress in first.steps():
        if progress.step == stop:
            break
    torch.save(first.state_dict(), tmp_path / "state")
    second = begin(config)
    second.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    steps = [progress.step for progress in second.steps()]
    assert steps == list(range(stop + 1, 11))
    assert torch.equal(whole.result(), second.result())


def test_adam_carries_its_moments_to_the_next_scale():
    work = begin()
    for progress in work.steps():
        if progress.step == 13:
            break
    state = work.optimizer.state_dict()["state"][0]
    assert state["step"] == 13 and state["exp_avg"].shape == (3, 40, 40) and (state["exp_avg_sq"] >= 0).all()


def test_the_average_of_the_iterates():
    average = EMA(0.9)
    series = [torch.full((1,), float(v)) for v in (3, 5, 4)]
    for value in series:
        average.add(value)
    weights = [0.9**2, 0.9, 1.0]
    wanted = sum(w * v for w, v in zip(weights, (3, 5, 4), strict=True)) / sum(weights)
    assert average.value(series[-1]).item() == pytest.approx(wanted)
    assert EMA(0.0).value(series[0]).item() == 3


@pytest.mark.parametrize("init", ["content", "noise", "style", "file"])
def test_where_it_starts(init):
    content, start = smooth(), torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(9))
    work = begin(replace(TINY, init=init), content, start if init == "file" else None)
    first = work.result()
    wanted = {
        "content": style_transfer.resized(content, (32, 32)),
        "style": style_transfer.resized(stripes(), (32, 32)),
        "file": style_transfer.resized(start, (32, 48))[:, :, 8:40],
    }
    if init == "noise":
        assert first.std() > 0.25 and torch.equal(first, begin(replace(TINY, init=init)).result())
        assert not torch.equal(first, begin(replace(TINY, init=init, seed=1)).result())
    else:
        torch.testing.assert_close(first, wanted[init])


def test_colors_are_kept():
    content = smooth()
    work = begin(replace(TINY, keep_colors=True, tv=0.0, alpha=0.05))
    run(work)
    result, before = work.result(), style_transfer.resized(content, (40, 40))
    luma, chroma = image_io.to_gray(result), result - image_io.to_gray(result)
    assert (luma - image_io.to_gray(before)).abs().mean() > 0.03  # painted
    inside = ((result > 0.01) & (result < 0.99)).all(0)
    assert inside.float().mean() > 0.5
    assert ((chroma - before + image_io.to_gray(before)).abs().amax(0)[inside] < 1e-5).all()


def test_the_style_in_the_luminance_of_the_content():
    matched = style_transfer.luminance_like(stripes() * 0.3 + 0.2, smooth())
    gray = image_io.to_gray(smooth())
    assert matched.mean().item() == pytest.approx(gray.mean().item(), abs=1e-3)
    assert matched[0].std().item() == pytest.approx(gray.std().item(), rel=0.02)


def test_a_loss_that_is_no_number():
    with pytest.raises(TrainingError, match="not finite at step 1"):
        run(begin(content=torch.full((3, 40, 40), float("nan"))))


def test_layers_of_a_model_without_a_config():
    config = replace(configs.stylize("resnet18"), scales=(64,), steps=(2,))
    work = begin(config, name="resnet18")
    assert work.extractor.style_layers == {f"conv{n}": 1.0 for n in (1, 2, 3, 4, 5)}
    assert work.extractor.content_layers == {"conv4": 1.0}
    assert len(run(work)) == 2
    model = registry.load("cifarnet", untrained=True)
    with pytest.raises(UsageError, match="have no position"):
        style_transfer.open_layers(model, replace(config, style_layers=(("classifier", 1.0),)), CPU)
    with pytest.raises(UsageError, match="did you mean conv"):
        style_transfer.open_layers(model, replace(config, content_layers=(("conv9", 1.0),)), CPU)


@pytest.mark.parametrize("name, count", [("vgg19", 16), ("vgg16", 13)])
def test_the_published_layers_of_vgg(name, count):
    """relu1_1, ..., relu5_1 and relu4_2: the first rectifiers after each pooling, the second after the third."""
    with torch.device("meta"):
        network = torchvision.models.get_model(name).features
    names, block, number = {}, 1, 0
    for index, module in enumerate(network):
        if isinstance(module, torch.nn.ReLU):
            number += 1
            names[f"relu{block}_{number}"] = f"features.{index}"
        elif isinstance(module, torch.nn.MaxPool2d):
            block, number = block + 1, 0
    config = configs.stylize(name)
    assert len(names) == count
    assert [address for address, _ in config.style_layers] == [names[f"relu{block}_1"] for block in range(1, 6)]
    assert [address for address, _ in config.content_layers] == [names["relu4_2"]]
