"""`mlcli.list_models`: the models that can be named; the function behind `mlcli models`, whose name a package has."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlcli.api.call import Call, Config, function
from mlcli.errors import UsageError
from mlcli.options import argument

if TYPE_CHECKING:
    from mlcli.models.sources.source import Entry


@dataclass(frozen=True, kw_only=True)
class ListModelsConfig(Config):
    pattern: str | None = argument(
        'Pattern of the names to list, such as "timm/resnet*".',
        metavar="[PATTERN]",
        default=None,
        shown_default="all but timm's",
    )


@dataclass(frozen=True)
class Catalog:
    """The models found. unlisted: number of timm's models, which are left out without a pattern."""

    entries: "tuple[Entry, ...]"
    unlisted: int = 0

    def as_json(self) -> list[dict[str, Any]]:
        """What `mlcli models --format json` prints."""
        return [asdict(entry) for entry in self.entries]


@function(ListModelsConfig)
def list_models(call: Call[ListModelsConfig]) -> Catalog:
    """List the models that can be named, those of timm only by a pattern (* and ?).

    Each entry has the number of parameters in millions, the side of the input in pixels, the number of classes, the
    published ImageNet top-1 accuracy in percent, the license of the weights, and whether they are on this disk; None
    where nobody publishes a value. The folder of a run is a model too, and is not listed.

        >>> import mlcli
        >>> [entry.name for entry in mlcli.list_models("efficientnet_lite*").entries]
        ['efficientnet_lite0', 'efficientnet_lite1', 'efficientnet_lite2']

    Raises UsageError where no name fits the pattern.
    """
    from mlcli.models import catalog

    pattern = call.config.pattern
    entries = tuple(catalog.entries(pattern))
    if not entries:
        raise UsageError(f'{pattern}: no model of such a name; try "timm/*"')
    return Catalog(entries, 0 if pattern else catalog.count_unlisted())
