"""Other rules by which gradients pass ReLUs backward: the deconvnet and guided backpropagation.

With gradient g of the output and input x, the gradient of the input is g * f'(x) by the chain rule, and

    deconv   max(0, g)                      Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks
    guided   max(0, g) * f'(x) where x > 0  Springenberg et al. 2015, Striving for Simplicity

The rules hold for the ReLU f and for those that take its place: ReLU6 (whose f' is 0 above its limit, as by the chain
rule), leaky and parametric ones, ELU, CELU, SELU, and the smooth SiLU, GELU, Mish and Hardswish. Sigmoids, which are
gates, keep the chain rule, and so does what a network composes of other operations (x * sigmoid(1.7 x)).
"""

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

RULES = ("deconv", "guided")
RECTIFIERS = frozenset("relu relu6 leaky_relu prelu elu celu selu gelu silu mish hardswish hardtanh".split())


class ReluRule(TorchFunctionMode):
    """A context in which every rectifier of this thread, a module or a function, records the rule for its gradient.

    The values are those of the network itself, which is not changed. What was computed in the context keeps the rule
    when the gradient is computed after it:

        with ReluRule("guided"):
            logits = model(images)
        (gradient,) = torch.autograd.grad(logits[:, 3].sum(), images)
    """

    def __init__(self, rule: str) -> None:
        """rule: one of RULES. Raises ValueError for another."""
        if rule not in RULES:
            raise ValueError(f"{rule}: no rule for ReLUs; one of {', '.join(RULES)} is expected")
        super().__init__()
        self.rule = rule

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name.rstrip("_") not in RECTIFIERS or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        called = _Call.of(name, args, kwargs)
        if not isinstance(called.input, Tensor):  # a network is being traced
            return func(*args, **kwargs)
        if not called.input.requires_grad or called.is_gate:
            return func(*args, **kwargs)
        value, slope = called.value_and_slope() if self.rule == "guided" else (called.value(), None)
        return _Rectified.apply(called.input, value, slope, called.inplace)


class _Call:
    """A call of a rectifier.

    function: of the input alone, never in place. is_gate: whether it is a Hardtanh that passes negative values.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], input: Tensor, inplace: bool, is_gate: bool) -> None:
        self.function, self.input, self.inplace, self.is_gate = function, input, inplace, is_gate

    @classmethod
    def of(cls, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "_Call":
        plain = getattr(F, name.rstrip("_"))
        if not inspect.isfunction(plain):  # prelu and gelu, which know no `inplace`
            rest = dict(kwargs)
            input, *more = args or (rest.pop("input"),)
            return cls(lambda x: plain(x, *more, **rest), input, name.endswith("_"), False)
        given = inspect.signature(plain).bind(*args, **kwargs)
        given.apply_defaults()
        options = dict(given.arguments)
        input, inplace = options.pop("input"), options.pop("inplace", False) or name.endswith("_")
        return cls(partial(plain, **options), input, inplace, options.get("min_val", 0) < 0)

    @torch.no_grad()
    def value(self) -> Tensor:
        return self.function(self.input)

    def value_and_slope(self) -> tuple[Tensor, Tensor]:
        """The value, and its derivative where the input is positive, 0 elsewhere."""
        leaf = self.input.detach().requires_grad_()
        value = self.function(leaf)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), slope * (leaf > 0)


class _Rectified(torch.autograd.Function):
    """The value f(x) of an input x, whose gradient passes where it is positive, times the slope where there is one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, slope: Tensor | None, inplace: bool) -> Tensor:
        ctx.save_for_backward(*([] if slope is None else [slope]))
        if not inplace:
            return value
        ctx.mark_dirty(x)
        return x.copy_(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        passed = gradient.clamp_min(0)
        for slope in ctx.saved_tensors:
            passed = passed * slope
        return passed, None, None, None
