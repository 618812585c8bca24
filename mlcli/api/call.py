"""The functions behind the commands: a frozen configuration goes in, a result comes out.

    @dataclass(frozen=True, kw_only=True)
    class ClassifyConfig(Config):
        images: Images = argument("Image files and folders.")
        top_k: int = option(5, "Number of classes to name.", minimum=1)

    @function(ClassifyConfig)
    def classify(call: Call[ClassifyConfig]) -> Classification: ...

`classify(["photos"], top_k=3)` then takes the fields of the configuration. Loads no torch.
"""

import functools
import inspect
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

from mlcli.api import events
from mlcli.errors import UsageError
from mlcli.imaging import reading
from mlcli.io import output_paths, tally
from mlcli.options import Option, of, options

C = TypeVar("C", bound="Config")
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Config:
    """What all configurations have. Raises UsageError for values outside their limits.

    on_progress: called with an `events.Step` while the function works.
    """

    on_progress: Callable[[events.Step], None] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for each in options(type(self)):
            value, limits = getattr(self, each.name), of(each)
            if limits.path and isinstance(value, (str, Path)):
                object.__setattr__(self, each.name, output_paths.KINDS[limits.path](value))
            if limits.cli_type is str and isinstance(value, (int, float, os.PathLike)):  # such as a size, or a fraction
                object.__setattr__(self, each.name, str(value))
            if limits.several and limits.choices:
                value = named_choices(each.name, value)
                object.__setattr__(self, each.name, value)
            for one in value if isinstance(value, (list, tuple)) else [value]:
                require_within(each.name, one, limits)

    def as_json(self) -> dict[str, Any]:
        """The options as JSON keeps them."""
        return {each.name: plain(getattr(self, each.name)) for each in options(type(self))}


def named_choices(name: str, given: Any) -> tuple[str, ...]:
    """The choices that one or several texts name, each once; a text may name several, separated by commas.

    Raises UsageError for what is no text.
    """
    texts: list[Any] = list(given) if isinstance(given, (list, tuple)) else [given]
    if not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{name} {given}: name one or several")
    return tuple(dict.fromkeys(part.strip() for text in texts for part in text.split(",")))


def require_within(name: str, value: Any, limits: Option) -> None:
    """Raise UsageError where a number is not within its bounds, or a text is none of the choices."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = limits.minimum, limits.maximum
        if not ((low is None or value >= low) and (high is None or value <= high)):  # NaN is within no bounds
            one_sided = f"at least {low}" if high is None else f"at most {high}"
            bounds = one_sided if None in (low, high) else f"from {low} to {high}"
            raise UsageError(f"{name} {value}: take a number {bounds}")
    if limits.choices and isinstance(value, str) and value not in limits.choices:
        raise UsageError(f"{name} {value}: take one of {', '.join(limits.choices)}")


@dataclass
class Call(Generic[C]):
    """One call of a function of the api.

    name: of the command.  given: names of the options that the caller has named.  words: the command line; None where
    it is called from Python.  write: prints pieces of a result that come while it is made; None where nobody prints.
    """

    name: str
    config: C
    given: frozenset[str]
    words: tuple[str, ...] | None = None
    write: Callable[[bytes], None] | None = None
    resources: ExitStack = field(default_factory=ExitStack)

    @property
    def text(self) -> str:
        """The command line as it was typed, or the call from Python."""
        if self.words is not None:
            return shlex.join(self.words)
        values = self.config.as_json()
        arguments = ", ".join(f"{name}={values[name]!r}" for name in values if name in self.given)
        return f"mlcli.{self.name.replace('-', '_')}({arguments})"

    def hold(self, resource: AbstractContextManager[R]) -> R:
        """Enter a context, such as a lock, that is left when the call ends."""
        return self.resources.enter_context(resource)

    def run(self, public: Callable[..., R]) -> R:
        """What a function of the api returns for this call."""
        return inspect.unwrap(public)(self)

    def __enter__(self) -> "Call[C]":
        self.resources.__enter__()
        allowed = {name: getattr(self.config, name, False) for name in ("accept_truncated", "stretch")}
        self.hold(reading.using(reading.Reading(**allowed)))
        self.hold(_in_force(self))
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self.resources.__exit__(*error)


_current: ContextVar[Call[Any] | None] = ContextVar("call", default=None)


@contextmanager
def _in_force(call: Call[Any]) -> Iterator[None]:
    before = _current.set(call)
    try:
        yield
    finally:
        _current.reset(before)


def current() -> Call[Any] | None:
    """The call that this thread works for."""
    return _current.get()


def function(configuration: Callable[P, C]) -> Callable[[Callable[[Call[C]], R]], Callable[P, R]]:
    """Make a public function, which takes the fields of a configuration, of one that takes a call with it."""

    def decorate(body: Callable[[Call[C]], R]) -> Callable[P, R]:
        returned = inspect.signature(body).return_annotation
        signature = inspect.signature(configuration).replace(return_annotation=returned)

        @functools.wraps(body)
        def public(*args: P.args, **kwargs: P.kwargs) -> R:
            given = frozenset(signature.bind_partial(*args, **kwargs).arguments)
            config = configuration(*args, **kwargs)
            counted, name = tally.begin(), body.__name__.replace("_", "-")
            speaks = os.environ.get("RANK", "0") == "0"
            with Call(name, config, given) as call:
                with events.listening(events.Listener(config.on_progress) if speaks else events.Silent()):
                    result = body(call)
                    if counted.met_images:  # what was left out, and why
                        events.say(f"{name}: {counted.summary()}")
                    return result

        public.__signature__ = signature  # type: ignore[attr-defined]
        public.config = configuration  # type: ignore[attr-defined]  # see configuration_of
        return public

    return decorate


def configuration_of(public: Callable[..., Any]) -> type[Config]:
    """The configuration whose fields a function of the api takes."""
    return public.config  # type: ignore[attr-defined]


def plain(value: Any) -> Any:
    """An option's value as JSON keeps it."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return getattr(value, "filename", None) or type(value).__name__  # an image that is in memory
