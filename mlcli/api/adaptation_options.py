"""The options of `mlcli adapt` that are hyperparameters of its methods, each declared by the method's configuration."""

import typing
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields, make_dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from mlcli.api.call import Config
from mlcli.api.option_tables import shown
from mlcli.counting import joined
from mlcli.errors import UsageError
from mlcli.methods.adaptation.registry import (
    MASKS,
    METHODS,
    PRETRAINED,
    PRETRAINED_FEATURES,
    Adaptation,
    EncoderOptions,
    command_line_options,
)
from mlcli.options import of, same

if TYPE_CHECKING:
    from mlcli.models.model import Model

C = TypeVar("C", bound=Config)
SMALL_IMAGES = 64  # pixels a side, up to which networks are trained from scratch here


def with_method_options(base: type[C]) -> type[C]:
    """The configuration `base` with a field for every option of a method; None stands for the method's default."""
    added = []
    for name, uses in command_line_options().items():
        configuration = METHODS[uses[0][0]].config
        hint = typing.get_type_hints(configuration)[name]
        changes = {"help": _help(uses), "shown_default": _shown_default(name, uses)}
        added.append((name, hint | None, same(configuration, name, default=None, **changes)))
    return make_dataclass(base.__name__, added, bases=(base,), frozen=True, kw_only=True)


def _help(uses: list[tuple[str, Field[Any]]]) -> str:
    """The help text, with the methods that have the option unless all have it, or those that lack it if fewer."""
    text, having = of(uses[0][1]).help, [method for method, _ in uses]
    lacking = [method for method in METHODS if method not in having]
    if not lacking:
        return text
    named = ", ".join(having) if len(having) <= len(lacking) else f"all but {', '.join(lacking)}"
    return f"{text.rstrip('.')} ({named})."


def _shown_default(name: str, uses: list[tuple[str, Field[Any]]]) -> str:
    """The default as the help shows it, by method where these differ."""
    values = Counter(each.default for _, each in uses)
    if None in values:
        return of(uses[0][1]).shown_default or ""
    (common, count), *_ = values.most_common()
    others = [f"{m} {shown(each.default)}" for m, each in uses if each.default != common or 2 * count <= len(uses)]
    text = ", ".join(others if len(others) == len(uses) else [shown(common), *others])
    if name in PRETRAINED:
        text += f"; with --pretrained {PRETRAINED[name]}"
    features = [method for method, _ in uses if issubclass(METHODS[method].config, EncoderOptions)]
    if name in PRETRAINED_FEATURES and features:
        text += f"; {joined(features)} with --pretrained {PRETRAINED_FEATURES[name]}"
    if name in MASKS:
        text += f"; with --task segment {MASKS[name]}"
    return text


def hyperparameters(
    options: Mapping[str, Any],
    given: frozenset[str] = frozenset(),
    source_model: "Model | None" = None,
    beside: Sequence[str] = (),
) -> Adaptation:
    """The configuration of the method that the options name.

    given: names of the options that the caller has named. source_model: the model of the source, if it is trained
    already; one for photographs has the defaults of those that start from pretrained weights. beside: the methods
    of the same run, which may have options of their own. Raises UsageError for an option of a method that is not
    named, or of another stage, and for labels that the method does not learn.
    """
    method, named = METHODS[options["method"]], [*dict.fromkeys([options["method"], *beside])]
    own = {field.name for field in fields(method.config)}
    for name, uses in sorted(command_line_options().items()):
        having = [each for each, _ in uses]
        if options.get(name) is not None and not {*having} & {*named}:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag}: an option of --method {joined(having)}, not of {joined(named)}")
    if options["task"] not in method.tasks:
        raise UsageError(f"--task {options['task']}: --method {options['method']} does {joined(method.tasks)}")
    for name in ("generator", "pixel_steps", "pixel_lr") if options.get("stage") == "feature" else ():
        if name in given:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag}: an option of the pixel stage; leave it or --stage feature out")
    values = {name: options[name] for name in own if options.get(name) is not None}
    values["pretrained"] = bool(options.get("pretrained") or options.get("weights"))
    if source_model:
        values["pretrained"] = source_model.preprocessing.crop > SMALL_IMAGES
    defaults: dict[str, Any] = {}
    if options["task"] == "segment":
        if values["pretrained"]:
            raise UsageError(f"--pretrained: --task segment takes {MASKS['model']}, which comes without weights")
        if values.get("select") == "reverse":
            raise UsageError("--select reverse: is for classes; --task segment takes another criterion")
        defaults = MASKS
    if values["pretrained"]:
        defaults = PRETRAINED | (PRETRAINED_FEATURES if issubclass(method.config, EncoderOptions) else {})
    return method.config(**{name: value for name, value in defaults.items() if name in own} | values)
