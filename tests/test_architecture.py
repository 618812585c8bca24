"""Dependencies run one way, in the order of ORDER from its end to its beginning; errors is a leaf."""

import ast
import graphlib
from collections import Counter
from pathlib import Path

import pytest

import mlcli

PACKAGE = Path(mlcli.__file__).parent
ORDER = "networks runtime io imaging data training models reporting methods api commands cli".split()
FILES = sorted(PACKAGE.rglob("*.py"))
RAISING = {"exists", "is_file", "is_dir", "is_symlink", "is_fifo", "samefile"}
OTHERS = {"os.path", "entry", "run", "folder", "self"}  # entries of os.scandir; a Run has an `exists` of its own
NETWORKS_MAY = {"torch", "collections", "math", "functools", "dataclasses", "typing", "itertools"}


def part(name: str) -> str:
    """`mlcli.models.registry` -> models; the package itself -> mlcli."""
    return (name.split(".") + ["mlcli"])[1] if "." in name else "mlcli"


def imported(file: Path) -> set[str]:
    """Every module that a file imports, at its top or within a function."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            # `from mlcli.models import registry` imports a module, `from mlcli.models.registry import load` a name
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_one_way(file):
    inside = file.relative_to(PACKAGE)
    own = {"__init__.py": "api"}.get(inside.parts[0], inside.parts[0].removesuffix(".py"))  # it hands out the api's
    for name in sorted(imported(file)):
        if name.split(".")[0] != "mlcli":
            continue
        other = part(name)
        if other in ("errors", "options", "counting", "printable", "mlcli", "__version__"):
            continue
        assert own in ORDER, f"{inside} is a leaf and imports {name}"
        assert ORDER.index(other) <= ORDER.index(own), f"{inside} imports {name}"
        if own == "commands" and other == "commands" and not inside.name.startswith("_"):
            module = (name.split(".") + [""])[2]
            assert module.startswith("_") or inside.name == "__init__.py", f"{inside} imports another command, {name}"


@pytest.mark.parametrize("file", sorted((PACKAGE / "networks").glob("*.py")), ids=lambda file: file.name)
def test_networks_need_torch_alone(file):
    assert {name.split(".")[0] for name in imported(file)} <= NETWORKS_MAY | {"mlcli"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_only_the_report_prints(file):
    calls = [node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Call)]
    prints = [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
    assert not prints or file.name == "_report.py"
    exits = [c.lineno for c in calls if isinstance(c.func, ast.Attribute) and ast.unparse(c.func) == "sys.exit"]
    assert not exits


def test_every_part_of_the_package_is_in_the_order():
    folders = {folder.name for folder in PACKAGE.iterdir() if folder.is_dir() and not folder.name.startswith("__")}
    assert folders - {"weights", "docs"} == set(ORDER) - {"cli"}
    assert not list(PACKAGE.rglob("utils.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_what_is_there_is_asked_of_os_path(file):
    """Path.exists and its like raise for a folder that may not be entered and for names that are too long."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in RAISING:
            of = ast.unparse(node.func.value)
            assert of in OTHERS or of.endswith("os.path"), f"{file}:{node.lineno}: {ast.unparse(node)}"


def test_files_and_folders_can_be_read_at_once():
    long = {str(f.relative_to(PACKAGE)): n for f in FILES if (n := f.read_text("utf-8").count("\n")) > 400}
    assert long == {}
    modules = Counter(f.parent for f in FILES if f.name != "__init__.py" and f.parent.name not in ("api", "commands"))
    assert {str(f.relative_to(PACKAGE)): n for f, n in modules.items() if n > 16} == {}


def test_no_module_imports_itself_in_a_circle():
    """By the imports at the top of files; those within functions are of what is loaded late."""
    modules = {
        "mlcli." + ".".join(f.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): f for f in FILES
    }

    def imports(file: Path) -> set[str]:
        names = set()
        for node in ast.parse(file.read_text("utf-8")).body:
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        return names & modules.keys()

    graph = {name: imports(file) - {name} for name, file in modules.items()}
    assert list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
