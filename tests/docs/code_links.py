"""Links in Markdown, and those that lead to a definition in a file of Python.

[`gram_loss`](../methods/painting/style_losses.py#L107) leads to the line where `gram_loss` is defined. Whoever writes a
page gives the name and the file; tests/docs/regenerate.py adds the line.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LINK = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#]*)(?P<anchor>#[^)\s]*)?\)", re.DOTALL)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


class Link(NamedTuple):
    """A link of a page. target: a relative path; "" for one within the page."""

    text: str
    target: str
    anchor: str  # with its #; "" for none


def links(page: str) -> Iterator[Link]:
    """The relative links of a page, outside of its code blocks."""
    for found in LINK.finditer(FENCE.sub("", page)):
        if "://" not in found["target"] and not found["target"].startswith("mailto:"):
            yield Link(found["text"], found["target"], found["anchor"] or "")


def definitions(code: str) -> dict[str, int]:
    """The line of each function, class and constant of a file, and of methods and fields as `Class.name`."""
    found: dict[str, int] = {}

    def visit(body: list[ast.stmt], before: str) -> None:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found[before + node.name] = node.lineno
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{before}{node.name}.")
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found.update({before + each.id: node.lineno for each in targets if isinstance(each, ast.Name)})

    visit(ast.parse(code).body, "")
    return found


def defined_name(link: Link) -> str | None:
    """The definition that a link leads to: its text in backticks, where it leads to a file of Python."""
    name = re.fullmatch(r"`([\w.]+)(?:\(\))?`", link.text)
    return name[1] if name and link.target.endswith(".py") else None


def with_lines(page: str, folder: Path) -> str:
    """The page, which lies in `folder`, with the lines of its links to definitions as they should be."""

    def replace(found: re.Match[str]) -> str:
        link = Link(found["text"], found["target"], found["anchor"] or "")
        name, file = defined_name(link), folder / link.target
        if name is None or not file.is_file():
            return found[0]
        line = definitions(file.read_text("utf-8")).get(name)
        return found[0] if line is None else f"[{link.text}]({link.target}#L{line})"

    return LINK.sub(replace, page)
