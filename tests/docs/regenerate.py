"""Write what is generated in the pages: the tables of options, and the lines of links to definitions.

python -m tests.docs.regenerate [PAGE...]
"""

import sys
from pathlib import Path

from mlcli.api import read_docs
from mlcli.api.read_docs import FOLDER
from mlcli.commands import COMMANDS
from tests.docs.code_links import with_lines
from tests.docs.option_tables import with_table

ROOT = FOLDER.parents[1]
README, SAMPLES = ROOT / "README.md", ROOT / "samples" / "README.md"
OF_COMMANDS, GUIDES = sorted(FOLDER.glob("*.md")), sorted((FOLDER / read_docs.GUIDES).glob("*.md"))
PAGES = [*OF_COMMANDS, *GUIDES]
COMMAND_OF = {FOLDER / f"{command.name}.md": command for command in COMMANDS}


def regenerated(page: Path) -> str:
    """The text of a page as it should be."""
    text = with_lines(page.read_text("utf-8"), page.parent)
    return with_table(text, COMMAND_OF[page]) if page in COMMAND_OF else text


def main(names: list[str]) -> None:
    """Rewrite the pages of these names, or all."""
    for page in PAGES:
        if not names or page.stem in names:
            page.write_text(regenerated(page), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
