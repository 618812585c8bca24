"""The words of the field, in American spelling, in the code, its messages and its documentation."""

import ast
import re
from pathlib import Path

import pytest

import mlcli

PACKAGE = Path(mlcli.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
PAGES = sorted(PACKAGE.rglob("*.md"))
# What no text says, in any sense that this project has for it
NEVER = r"pictures?|recipes?|\w*colour\w*|\w*neighbour\w*|grey|behaviours?|centres?|judges?|judged|players?|mirrored"
NEVER += r"|labelled|artefacts?"
SPELLING = r"(?:normal|optim|initial|regular|quant|maxim|minim|recogn|summar|visual|general|standard|parametr)"
SPELLING += r"is(?:e[sdr]?|ing|ation)"
# Parts of public names, between underscores or capitals
NAMES = set(
    "picture pictures recipe recipes colour colours judge judges players mirrored alike seer sight reach".split()
)
NAMES |= set("place places share shares".split())


def texts(file: Path) -> list[tuple[int, str]]:
    """(line, text) of every comment and string; not of single words, which can be keys of files."""
    if file.suffix != ".py":
        return list(enumerate(file.read_text("utf-8").splitlines(), 1))
    tree = ast.parse(file.read_text("utf-8"))
    strings = (n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str))
    found = [(string.lineno, string.value) for string in strings if " " in string.value]
    comments = [
        (number, line.split("#", 1)[1])
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1)
        if "# " in line
    ]
    return found + comments


@pytest.mark.parametrize(
    "file",
    [*FILES, *PAGES, PACKAGE.parent / "README.md", PACKAGE.parent / "samples" / "README.md"],
    ids=lambda file: str(file.relative_to(PACKAGE.parent)),
)
def test_texts_use_the_words_of_the_field(file):
    if not file.exists():
        pytest.skip("an installed package has no README beside it")
    wrong = [
        f"{file.name}:{line}: {word.group()}"
        for line, text in texts(file)
        for word in re.finditer(rf"\b(?:{NEVER}|{SPELLING})\b", text, re.IGNORECASE)
    ]
    assert wrong == []


def public_names(file: Path) -> set[str]:
    """Names of public functions, classes, methods and their parameters, and of fields of classes."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            names.add(node.name)
            if isinstance(node, ast.FunctionDef):
                arguments = node.args
                names |= {each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
            else:
                names |= {
                    each.target.id
                    for each in node.body
                    if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
                }
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_public_names_use_the_words_of_the_field(file):
    wrong = []
    for name in public_names(file) | {file.stem}:
        parts = {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}
        if parts & NAMES or re.search(SPELLING, name, re.IGNORECASE):
            wrong.append(name)
    assert wrong == []
