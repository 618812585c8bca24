"""`mlcli.read_docs`: the pages of the documentation; the function behind `mlcli docs`, whose name their folder has."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlcli
from mlcli.api.call import Call, Config, function
from mlcli.errors import UsageError, did_you_mean
from mlcli.options import argument

FOLDER = Path(mlcli.__file__).parent / "docs"
GUIDES = "guides"  # the folder of the pages that are of no single command


@dataclass(frozen=True, kw_only=True)
class ReadDocsConfig(Config):
    page: str | None = argument(
        "Command or guide whose page to show.",
        metavar="[COMMAND|GUIDE]",
        default=None,
        shown_default="a list of all pages",
    )


@dataclass(frozen=True)
class Page:
    """A page of the documentation. text: Markdown.  guide: whether it is a guide, and not the page of a command."""

    name: str
    guide: bool
    text: str

    @property
    def summary(self) -> str:
        """The first sentence of the page, after its heading, on one line and without links."""
        _, paragraph, *_ = self.text.split("\n\n")
        words = re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", " ".join(paragraph.split()))
        return re.split(r"(?<=[.?!])\s", words)[0]


@dataclass(frozen=True)
class Documentation:
    """The pages that were asked for: all, or one."""

    pages: tuple[Page, ...]

    def as_json(self) -> list[dict[str, Any]]:
        """The name and the first sentence of each page."""
        return [{"page": page.name, "guide": page.guide, "summary": page.summary} for page in self.pages]


@function(ReadDocsConfig)
def read_docs(call: Call[ReadDocsConfig]) -> Documentation:
    """Read a page of the documentation, or all pages: those of the commands, then the guides, by name.

        >>> import mlcli
        >>> mlcli.read_docs("stylize").pages[0].summary
        'Paints photographs in the style of another image.'

    Raises UsageError for a page that there is not.
    """
    files = {file.stem: file for folder in (FOLDER, FOLDER / GUIDES) for file in sorted(folder.glob("*.md"))}
    wanted = call.config.page
    if wanted is not None and wanted not in files:
        raise UsageError(f"{wanted}: no such page{did_you_mean(wanted, list(files))}; `mlcli docs` lists all")
    names = files if wanted is None else [wanted]
    return Documentation(
        tuple(Page(name, files[name].parent.name == GUIDES, files[name].read_text("utf-8")) for name in names)
    )
