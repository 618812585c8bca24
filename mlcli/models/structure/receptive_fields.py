"""The receptive field of the values of each node of a graph (Araujo et al. 2019).

A receptive field smaller than the image is only kept by operations that are known to work on each position alone or on
a window. An unknown operation may depend on the whole image.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, fx, nn

WHOLE = math.inf  # the side of a receptive field that is the whole image


class ReceptiveField(NamedTuple):
    """The receptive fields of the units of a map, in pixels of the input.

    height, width: of one unit's field. top, left: where the field of unit (0, 0) begins; negative in the padding.
    stride: distance to the next unit's field. planes: whether height and width are the last two dimensions of the map;
    otherwise the channels are the last one.
    """

    height: float
    width: float
    top: float
    left: float
    stride: float
    planes: bool = True

    def everywhere(self) -> "ReceptiveField":
        """The same positions, each with the whole image as its field."""
        return self._replace(height=WHOLE, width=WHOLE)


PIXEL = ReceptiveField(1, 1, 0, 0, 1)
ALL = ReceptiveField(WHOLE, WHOLE, 0, 0, WHOLE)

# Modules (by class) and operations that work on each position alone
POINTWISE = frozenset(
    "ReLU ReLU6 LeakyReLU PReLU ELU CELU SELU GELU SiLU Mish Hardswish Hardsigmoid Hardtanh Sigmoid Tanh Softplus "
    "LogSigmoid Softsign Threshold Dropout Dropout1d Dropout2d Dropout3d AlphaDropout Identity "
    "BatchNorm2d SyncBatchNorm BatchNormAct2d SyncBatchNormAct FrozenBatchNorm2d StochasticDepth "
    "relu relu6 leaky_relu prelu elu celu selu gelu silu mish hardswish hardsigmoid hardtanh sigmoid tanh softplus "
    "dropout dropout2d batch_norm stochastic_depth add sub mul div truediv neg pow exp log sqrt rsqrt square abs erf "
    "reciprocal iadd isub imul itruediv clamp clamp_min clamp_max minimum maximum lerp addcmul masked_fill where "
    "contiguous clone detach to type type_as float half bfloat16 cat concat chunk split unbind getitem "
    "stack unsqueeze squeeze expand expand_as repeat_interleave mean sum amax amin max min var std".split()
)
# Operations along one dimension, which decides what a value depends on
ALONG = frozenset("softmax log_softmax normalize cumsum sort argsort topk norm".split())
MIXES = frozenset("matmul bmm baddbmm einsum roll flip scaled_dot_product_attention MultiheadAttention".split())


@dataclass
class Step:
    """A node and what it is computed from.

    kind: the class of its module or the name of its operation. sources: the inputs that depend on the image. value: the
    result. before: the receptive field of the inputs. argument(position, name, default): an argument of the operation,
    with values instead of nodes.
    """

    node: fx.Node
    module: nn.Module | None
    kind: str
    before: ReceptiveField
    sources: list[Tensor]
    value: Tensor
    argument: Callable[[int, str, Any], Any]
    crop: int

    @property
    def source(self) -> Tensor:
        """The first input that depends on the image."""
        return self.sources[0]


def receptive_field(step: Step) -> ReceptiveField:
    """The receptive field of a node's values."""
    if step.kind in MIXES or "attention" in step.kind:
        return ALL._replace(planes=step.before.planes)
    ran = steps(step.module)
    if len(ran) > 1 and all(isinstance(m, SLIDING) or type(m).__name__ in POINTWISE for _, m in ran):
        field = step.before  # one of torchvision's blocks: convolution, norm, activation
        for _, module in ran:
            if isinstance(module, SLIDING):
                field = _window(module, field, None, None)
        return _placed(field, step) if isinstance(ran[0][1], nn.Conv2d) else field
    if isinstance(step.module, SLIDING):
        field = _window(step.module, step.before, step.source, step.value)
        return _placed(field, step) if isinstance(step.module, nn.Conv2d) else field
    if (rule := RULES.get(step.kind.rstrip("_"))) is not None:
        return rule(step)
    if step.kind.rstrip("_") in POINTWISE and _keeps_sides(step):
        return step.before
    return _unknown(step)


def pads_with_content(step: Step) -> bool:
    """Whether a node pads with content of the image, which lies elsewhere: no window around a position holds it."""
    mode = step.argument(2, "mode", "constant")
    return step.kind in ("ReflectionPad2d", "ReplicationPad2d") or (step.kind == "pad" and mode != "constant")


def union(before: Sequence[ReceptiveField]) -> ReceptiveField:
    """The receptive field of a sum or concatenation: the box around the fields of its terms.

    A term without positions (the weights of a squeeze-and-excitation block, which scale whole maps) does not change the
    stride.
    """
    top, left = min(b.top for b in before), min(b.left for b in before)
    return ReceptiveField(
        max(b.top + b.height for b in before) - top,
        max(b.left + b.width for b in before) - left,
        top,
        left,
        min(b.stride for b in before),
        all(b.planes for b in before),
    )


def steps(module: nn.Module | None, name: str = "") -> list[tuple[str, nn.Module]]:
    """(name inside the node, module) of the modules that a node runs in sequence.

    A block of convolution, norm and activation of torchvision's is one node.
    """
    if not isinstance(module, nn.Sequential):
        return [] if module is None else [(name, module)]
    return [s for key, m in module.named_children() for s in steps(m, f"{name}.{key}" if name else key)]


# -- windows -------------------------------------------------------------------------------------------------

SLIDING = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


def slide(field: ReceptiveField, kernel: Any, step: Any, padding: Any, dilation: Any = 1) -> ReceptiveField:
    """Slide a window over a map: the first field begins p j earlier; r += (k - 1) d j; j *= s (j: the stride)."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = map(_pair, (kernel, step, padding, dilation))
    if field.stride == WHOLE:
        return field
    return ReceptiveField(
        field.height + (kh - 1) * dh * field.stride,
        field.width + (kw - 1) * dw * field.stride,
        field.top - ph * field.stride,
        field.left - pw * field.stride,
        field.stride * max(sh, sw),
    )


def _window(module: nn.Module, field: ReceptiveField, source: Tensor | None, value: Tensor | None) -> ReceptiveField:
    kernel, stride, dilation = module.kernel_size, module.stride, getattr(module, "dilation", 1)
    own = type(module) in SLIDING
    padding = _padding(module.padding, kernel, stride, dilation, source, value, own)
    return slide(field, kernel, stride, padding, dilation)


def _padding(
    padding: Any, kernel: Any, stride: Any, dilation: Any, source: Tensor | None, value: Tensor | None, own: bool
) -> tuple[int, int]:
    """(top, left). Layers that pad like TensorFlow have no fixed padding: it follows from the size of their result."""
    k, s, d = map(_pair, (kernel, stride, dilation))
    if padding == "valid":
        return 0, 0
    if padding == "same":
        return d[0] * (k[0] - 1) // 2, d[1] * (k[1] - 1) // 2
    if own or source is None or value is None:
        return _pair(padding)
    found = list(_pair(padding))
    for axis in (0, 1):
        side, result = source.shape[axis - 2], value.shape[axis - 2]
        reached = (k[axis] - 1) * d[axis] + 1
        if (side + 2 * found[axis] - reached) // s[axis] + 1 != result == math.ceil(side / s[axis]):
            found[axis] = max(0, (result - 1) * s[axis] + reached - side) // 2
    return found[0], found[1]


def _placed(field: ReceptiveField, step: Step) -> ReceptiveField:
    """The field of a convolution's values, which have positions again after windows or tokens, unless there is one."""
    if field.stride == WHOLE and step.value.ndim == 4 and step.value.shape[-1] > 1:
        return ALL._replace(stride=step.crop / step.value.shape[-1])
    return field


def _convolution(step: Step) -> ReceptiveField:
    weight = step.argument(1, "weight", None)
    if not step.before.planes or not isinstance(weight, Tensor) or step.source.ndim != 4:
        return _unknown(step)
    padding, stride = step.argument(4, "padding", 0), step.argument(3, "stride", 1)
    dilation, kernel = step.argument(5, "dilation", 1), tuple(weight.shape[2:])
    padding = _padding(padding, kernel, stride, dilation, step.source, step.value, True)
    field = slide(step.before, kernel, stride, padding, dilation)
    if len(step.sources) > 1:
        field = field.everywhere()  # its kernels depend on the image
    return _placed(field, step)


def _pool(step: Step) -> ReceptiveField:
    kernel = step.argument(1, "kernel_size", 1)
    stride, padding = step.argument(2, "stride", None) or kernel, step.argument(3, "padding", 0)
    dilation = step.argument(4, "dilation", 1) if "max" in step.kind or step.kind == "boolean_dispatch" else 1
    field = slide(step.before, kernel, stride, padding, dilation)
    k, s, p, d = (_pair(value)[1] for value in (kernel, stride, padding, dilation))
    steps_right = (step.source.shape[-1] + 2 * p - (k - 1) * d - 1) / s
    # Adaptive pooling has the same name
    known = step.value.shape[-1] - 1 in (math.floor(steps_right), math.ceil(steps_right))
    return field if known and step.before.planes else _unknown(step)


def _unshuffle(step: Step) -> ReceptiveField:
    """Blocks of pixels to channels."""
    block = step.source.shape[-1] // step.value.shape[-1]
    return slide(step.before, block, block, 0)


def _upsample(step: Step) -> ReceptiveField:
    """Nearest neighbor by integer factors: the units of a block have one field; the box of each unit holds it."""
    if step.value.shape == step.source.shape:
        return step.before
    mode = getattr(step.module, "mode", None) or step.argument(3, "mode", "nearest")
    factors = [after / before for after, before in zip(step.value.shape[-2:], step.source.shape[-2:], strict=True)]
    field, factor = step.before, factors[0]
    if mode != "nearest" or factors[0] != factors[1] or factor % 1 or not field.planes or field.stride == WHOLE:
        return _unknown(step)
    more = (factor - 1) * field.stride / factor
    return ReceptiveField(
        field.height + more, field.width + more, field.top - more, field.left - more, field.stride / factor, True
    )


# -- shapes --------------------------------------------------------------------------------------------------


def _pad(step: Step) -> ReceptiveField:
    sides = list(getattr(step.module, "padding", None) or step.argument(1, "pad", ()))
    if not step.before.planes:
        sides = sides[2:]  # the channels come first
    if step.before.stride == WHOLE:
        return _unknown(step)
    left, _, top, _ = (sides + [0] * 4)[:4]
    return _shifted(step.before, top=-top, left=-left)


def _getitem(step: Step) -> ReceptiveField:
    """A part of several values, or a slice of one."""
    field, index = step.before, step.argument(1, "", None)
    if _keeps_sides(step):
        return field
    if field.stride == WHOLE or not isinstance(index, tuple) or step.value.ndim != step.source.ndim:
        return _unknown(step)
    if ... in index:
        gap = step.source.ndim - len(index) + 1
        position = index.index(...)
        index = index[:position] + (slice(None),) * gap + index[position + 1 :]
    index = index + (slice(None),) * (step.source.ndim - len(index))
    rows, columns = index[-2:] if field.planes else index[-3:-1]
    if not all(isinstance(i, slice) and (i.start or 0) >= 0 and (i.step or 1) > 0 for i in (rows, columns)):
        return _unknown(step)
    if (rows.step or 1) != (columns.step or 1):
        return _unknown(step)
    shifted = _shifted(field, top=rows.start or 0, left=columns.start or 0)
    return shifted._replace(stride=field.stride * (rows.step or 1))


def _shifted(field: ReceptiveField, top: int, left: int) -> ReceptiveField:
    """Unit (0, 0) is the one that was at (top, left)."""
    return field._replace(top=field.top + top * field.stride, left=field.left + left * field.stride)


def _permute(step: Step) -> ReceptiveField:
    """The field where height and width stay neighbors; their new position decides `planes`."""
    count = step.source.ndim
    if step.kind == "transpose":
        order = list(range(count))
        a, b = step.argument(1, "dim0", 0), step.argument(2, "dim1", 0)
        order[a], order[b] = order[b], order[a]
    else:
        order = getattr(step.module, "dims", None) or step.argument(1, "dims", ())
        if isinstance(order, int):
            order = [step.argument(1 + position, "", 0) for position in range(count)]
    order = [dimension % count for dimension in order]
    sides = [count - 2, count - 1] if step.before.planes else [count - 3, count - 2]
    if len(order) != count or count < 3:
        return _unknown(step)
    if order[-2:] == sides:
        return step.before._replace(planes=True)
    if order[-3:-1] == sides:
        return step.before._replace(planes=False)
    return _unknown(step)


def _reshape(step: Step) -> ReceptiveField:
    """Positions stay the same where all dimensions from the height on do; those before them do not matter."""
    kept = 2 if step.before.planes else 3
    same = step.value.ndim > kept and step.value.shape[-kept:] == step.source.shape[-kept:]
    return step.before if same else _unknown(step)


def _along(step: Step) -> ReceptiveField:
    default = {"normalize": 1, "norm": None}.get(step.kind, -1)
    dimension = step.argument({"normalize": 2, "norm": 2, "topk": 2}.get(step.kind, 1), "dim", default)
    channels = step.source.ndim - (3 if step.before.planes else 1)
    alone = isinstance(dimension, int) and dimension % step.source.ndim == channels
    return step.before if alone and _keeps_sides(step) else _unknown(step)


def _channels_last(step: Step) -> ReceptiveField:
    """An operation on the last dimension."""
    shape = getattr(step.module, "normalized_shape", None) or step.argument(1, "normalized_shape", (0,))
    one = step.kind.lower() == "linear" or isinstance(shape, int) or len(shape) == 1
    return step.before if one and not step.before.planes and _keeps_sides(step) else _unknown(step)


def _unknown(step: Step) -> ReceptiveField:
    """An unknown operation may depend on the whole image; it keeps its positions where height and width stay."""
    before, after = _sides(step.source, step.before.planes), _sides(step.value, step.before.planes)
    if step.before.stride != WHOLE and before and before == after and step.kind not in RULES:
        return step.before.everywhere()
    return ALL._replace(planes=step.before.planes)


def _everywhere(step: Step) -> ReceptiveField:
    return step.before.everywhere()


RULES: dict[str, Callable[[Step], ReceptiveField]] = {
    "conv2d": _convolution,
    **dict.fromkeys(("max_pool2d", "avg_pool2d", "boolean_dispatch"), _pool),
    **dict.fromkeys(("PixelUnshuffle", "pixel_unshuffle", "SpaceToDepth"), _unshuffle),
    **dict.fromkeys(("Upsample", "interpolate"), _upsample),
    **dict.fromkeys(("pad", "ZeroPad2d", "ReflectionPad2d", "ReplicationPad2d", "ConstantPad2d"), _pad),
    "getitem": _getitem,
    **dict.fromkeys(("permute", "transpose", "Permute"), _permute),
    **dict.fromkeys(("view", "reshape"), _reshape),
    **dict.fromkeys(ALONG, _along),
    **dict.fromkeys(("LayerNorm", "layer_norm", "RMSNorm", "rms_norm", "Linear", "linear"), _channels_last),
    **dict.fromkeys(("GroupNorm", "group_norm", "InstanceNorm2d", "instance_norm"), _everywhere),
}


def _keeps_sides(step: Step) -> bool:
    return _sides(step.value, step.before.planes) in [_sides(source, step.before.planes) for source in step.sources]


def _sides(value: Tensor, planes: bool) -> tuple[int, ...] | None:
    """Height and width; None for a tensor that has neither."""
    if value.ndim < (3 if planes else 4):
        return None
    return tuple(value.shape[-2:] if planes else value.shape[-3:-1])


def _pair(value: Any) -> tuple[int, int]:
    """(vertical, horizontal) of a number for both, or of a list with one number or two."""
    vertical, horizontal = tuple(value) * (2 // len(value)) if isinstance(value, (tuple, list)) else (value, value)
    return vertical, horizontal
