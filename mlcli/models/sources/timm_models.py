"""timm's architectures, by `timm/NAME` or `timm/NAME.TAG`, the tag naming one of several sets of pretrained weights.

Everything goes through timm's public interface: its registry, its pretrained configurations, its builder and its cache
of downloads. Names such as `hf-hub:…` and `local-dir:…`, which timm takes too, are none here.
"""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mlcli.data.class_names import ClassNames, imagenet
from mlcli.data.preprocessing import LARGEST, Preprocessing
from mlcli.errors import UsageError, WeightsError, reason
from mlcli.io import schema
from mlcli.models.sources.downloads import weights_folder
from mlcli.models.sources.source import Architecture, Entry, Options, PretrainedSpec, Source

PREFIX = "timm/"
OPTIONS = schema.record(
    {},
    {
        "img_size": schema.integer(1, LARGEST),
        "in_chans": schema.choice(1, 3),
        "num_classes": schema.integer(0, 1_000_000),
    },
    closed=True,
)
FILES = ("model.safetensors", "pytorch_model.bin")  # what timm looks for in a repository of weights, in this order


@cache
def _timm() -> Any:
    import timm

    # Of a model that is not there timm logs what the message of our own error says
    logging.getLogger("timm").setLevel(logging.ERROR)
    return timm


@cache
def _known() -> frozenset[str]:
    return frozenset(_timm().list_models())


def tags(name: str) -> list[str]:
    """The sets of pretrained weights of `timm/NAME` or `NAME`, as NAME.TAG."""
    return _timm().list_pretrained(name.removeprefix(PREFIX).partition(".")[0] + ".*")


def _configuration(name: str) -> Any:
    return _timm().get_pretrained_cfg(name.removeprefix(PREFIX))


def _download(found: Any) -> None:
    """Bring the file of weights into the cache: the first of FILES that the repository has."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    *before, last = (found.hf_hub_filename,) if found.hf_hub_filename else FILES
    for file in before:
        try:
            hf_hub_download(found.hf_hub_id, file)
            return
        except LocalEntryNotFoundError:
            raise  # no connection: the next file would wait for it as long
        except EntryNotFoundError:
            pass
    hf_hub_download(found.hf_hub_id, last)


def _address(found: Any) -> str:
    """Where the weights can be had."""
    from huggingface_hub import hf_hub_url

    return hf_hub_url(found.hf_hub_id, found.hf_hub_filename or FILES[0]) if found.hf_hub_id else found.url


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars and warnings of the hub's client, which would stand among our own messages."""
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
        logger.setLevel(before)


def _build(name: str, classes: int, **options: Any) -> nn.Module:
    """options: `img_size`, `in_chans`, or `num_classes` in place of `classes`."""
    architecture = name.removeprefix(PREFIX).partition(".")[0]
    return _timm().create_model(architecture, pretrained=False, **{"num_classes": classes, **options})


def _options_for(name: str, size: int, channels: int) -> Options:
    """An architecture whose size is fixed has to be told that of the images."""
    found = _configuration(name)
    options = {"in_chans": channels} if channels != 3 else {}
    if found.fixed_input_size and size != found.input_size[-1]:
        options["img_size"] = size
    return options


class TimmModels(Source):
    listed = False

    def names(self) -> list[str]:
        return [PREFIX + name for name in sorted(_known())]

    def resolve(self, name: str) -> str | None:
        """`timm/NAME` and `timm/NAME.TAG` as they are, and for a bare name of timm's the same with the prefix."""
        if not name.startswith(PREFIX):
            return self.resolve(PREFIX + name) if "/" not in name else None
        architecture, _, tag = name.removeprefix(PREFIX).partition(".")
        known = architecture in _known() and (not tag or name.removeprefix(PREFIX) in tags(name))
        return name if known else None

    def architecture(self, name: str) -> Architecture:
        return Architecture(
            name,
            partial(_build, name),
            OPTIONS,
            partial(_options_for, name),
            partial(self.pretrained, name),
            channels=(1, 3),
        )

    def pretrained(self, name: str) -> PretrainedSpec:
        """What its pretrained weights want; without classes where they are those of no classifier."""
        found = _configuration(name)
        subset = _timm().data.infer_imagenet_subset({"num_classes": found.num_classes})
        if subset:
            classes = ClassNames.of(imagenet(subset))
        else:
            classes = ClassNames(tuple(found.label_names or ()))
        settings = _timm().data.resolve_data_config(pretrained_cfg=found.to_dict(), verbose=False)
        channels, crop, width = settings["input_size"]
        if crop != width:
            raise UsageError(f"--model {name}: takes images of {width} x {crop}, and only square ones are made here")
        # A squashed image is resized to the square at once; else the short side is, and the center cut out
        squashes = settings["crop_mode"] == "squash"
        preprocessing = Preprocessing(
            resize=int(crop / settings["crop_pct"]),
            crop=crop,
            mean=tuple(settings["mean"]),
            std=tuple(settings["std"]),
            interpolation="bilinear" if settings["interpolation"] == "bilinear" else "bicubic",
            channels=channels,
            squash=squashes,
            resampling="pillow",
        )
        # Without classes it keeps the outputs that its weights have, as an encoder of images has a projection
        options: Options = {} if classes.labels else {"num_classes": found.num_classes}
        return PretrainedSpec(classes, preprocessing, options)

    def stored(self, name: str) -> Path | None:
        """The file in the cache that timm's download fills (HF_HOME and TORCH_HOME move it)."""
        from huggingface_hub import try_to_load_from_cache

        found = _configuration(name)
        if found.hf_hub_id:
            for file in (found.hf_hub_filename,) if found.hf_hub_filename else FILES:
                path = try_to_load_from_cache(found.hf_hub_id, file)
                if isinstance(path, str):
                    return Path(path)
        elif found.url:
            path = weights_folder() / found.url.rsplit("/", 1)[-1]  # where timm puts them, as torchvision does
            return path if os.path.isfile(path) else None
        return None

    def fetch(self, name: str, network: nn.Module) -> Path | None:
        """Load the pretrained weights, downloaded once. Raises WeightsError."""
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        found = _configuration(name)
        if not found.has_weights:
            others = [PREFIX + tag for tag in tags(name)]
            advice = f"take {' or '.join(others[:3])}, or " if others else ""
            raise WeightsError(f"{name}: timm has no pretrained weights for it; {advice}give a file with --weights")
        try:
            with _quiet():
                if found.hf_hub_id and self.stored(name) is None:
                    _download(found)
                ready = _timm().create_model(
                    name.removeprefix(PREFIX), pretrained=True, num_classes=network.num_classes
                )  # which converts weights that their authors keep in another form
        except (LocalEntryNotFoundError, HfHubHTTPError, OSError, RuntimeError) as error:
            cause = "no connection" if isinstance(error, LocalEntryNotFoundError) else reason(error)
            raise WeightsError(
                f"{name}: its weights are not on this disk and could not be downloaded ({cause}). "
                f"Fetch {_address(found)} where there is a network, and give the file with --weights"
            ) from None
        network.load_state_dict(ready.state_dict(), assign=True)
        return self.stored(name)

    def entry(self, name: str) -> Entry:
        found = _configuration(name)
        subset = _timm().data.infer_imagenet_subset({"num_classes": found.num_classes})
        classes = found.num_classes if subset else len(found.label_names or ())
        return Entry(name, None, found.input_size[-1], classes, None, found.license, self.stored(name) is not None)

    def converted(self, name: str, network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Tensors in their authors' form, as timm converts those that it downloads.

        The number of classes is read from the last of them.
        """
        rows = [tensor.shape[0] for tensor in tensors.values() if tensor.ndim > 1]
        classes = {"num_classes": rows[-1] if rows else 0}
        given = {"state_dict": dict(tensors), "label_offset": 0, "custom_load": False, **classes}
        try:
            with _quiet():
                made = _timm().create_model(
                    name.removeprefix(PREFIX), pretrained=True, pretrained_cfg_overlay=given, **classes
                )
        except (LookupError, AttributeError, RuntimeError, TypeError, ValueError, AssertionError):
            return None  # whatever its converters meet in tensors of another network
        return made.state_dict()


TIMM = TimmModels()
