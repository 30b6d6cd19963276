"""The layout is the theory: each folder may import only what comes before it on the road a text walks."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "yuwen"
TEXT_ROAD = {"text", "tokens", "data"}
BLOCKS = {"nn", "models"}
EVERYTHING = {
    *TEXT_ROAD, *BLOCKS, "objectives", "training", "adapt", "generation", "evaluation",
    "tasks", "explain", "compress", "interop", "serve", "app",
}  # fmt: skip

# A folder → the other folders it may import; `errors`, `config`, `disk` and `native` are open to all, `cli` to nobody.
MAY_IMPORT: dict[str, set[str]] = {
    "text": set(),
    "tokens": {"text"},
    "data": {"text", "tokens"},
    "nn": set(),
    "models": {"nn"},
    "objectives": TEXT_ROAD | BLOCKS,
    "training": TEXT_ROAD | BLOCKS | {"objectives"},
    "generation": TEXT_ROAD | BLOCKS,
    "evaluation": TEXT_ROAD | BLOCKS,
    "tasks": TEXT_ROAD | BLOCKS | {"generation"},
    "interop": {"tokens"} | BLOCKS,
    "app": EVERYTHING,
    "cli": EVERYTHING,
}
# The rooms of `app`: what stands in it beside them is a verb's own composition, and may import them all.
APP_ROOMS: dict[str, set[str]] = {
    "machine": set(),
    "loading": {"machine"},
    "run": {"machine", "loading", "progress"},
    "pages": set(),
}
FOUNDATIONS: dict[str, set[str]] = {"errors": set(), "config": {"errors"}, "disk": set(), "native": {"disk"}}
OPEN_TO_ALL = {"errors", "config", "disk", "native", "__version__"}

FILES = sorted(SOURCE.rglob("*.py"))


def imported(tree: ast.AST, file: Path) -> list[tuple[int, str]]:
    """(line, dotted module) of every import below a node; relative ones resolved, `from yuwen import x` as yuwen.x."""
    package = ["yuwen", *file.relative_to(SOURCE).parent.parts]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "yuwen" else [module]
            found += [(node.lineno, name) for name in names]
    return found


def at_import_time(tree: ast.Module) -> ast.Module:
    """The module without its functions' bodies and without `if TYPE_CHECKING:`; what runs when it is imported."""

    class Remover(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        visit_AsyncFunctionDef = visit_FunctionDef

        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if "TYPE_CHECKING" in ast.unparse(node.test) else self.generic_visit(node)

    return Remover().visit(tree)


def places(file: Path, tree: ast.AST) -> list[tuple[int, str]]:
    """(line, first name below yuwen) of the imports of our own modules."""
    return [(line, name.split(".")[1]) for line, name in imported(tree, file) if name.startswith("yuwen.")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_point_one_way(file: Path) -> None:
    parts = file.relative_to(SOURCE).parts
    folder = parts[0] if len(parts) > 1 else file.stem
    tree = ast.parse(file.read_text(encoding="utf-8"))
    if folder == "__init__":  # the package's front door opens lazily, and only onto app
        allowed = {"app"}
        lazily = [name for _, name in places(file, at_import_time(tree))]
        assert not lazily, f"yuwen/__init__.py imports {lazily} at once: `import yuwen` must stay light"
    else:
        rules = FOUNDATIONS if len(parts) == 1 else MAY_IMPORT
        assert folder in rules, f"{folder} has no row in the table of tests/test_imports.py: say what it may import"
        allowed = rules[folder] if len(parts) == 1 else rules[folder] | OPEN_TO_ALL | {folder}
    wrong = [f"{file.name}:{line} imports {name}" for line, name in places(file, tree) if name not in allowed]
    assert not wrong, f"{folder} may import {sorted(allowed)} only: {wrong}"


@pytest.mark.parametrize("room", APP_ROOMS)
def test_the_rooms_of_app_stand_one_above_the_other(room: str) -> None:
    wrong = []
    for file in sorted((SOURCE / "app" / room).glob("*.py")):
        for line, name in imported(ast.parse(file.read_text(encoding="utf-8")), file):
            if name.startswith("yuwen.app.") and name.split(".")[2] not in APP_ROOMS[room] | {room}:
                wrong.append(f"{room}/{file.name}:{line} imports {name}")
    assert not wrong


def test_no_files_import_each_other_in_a_circle() -> None:
    """Types included: what two files both need to name stands in a third, below them. A package's face is no file."""
    modules = {".".join(["yuwen", *file.relative_to(SOURCE).with_suffix("").parts]): file for file in FILES}
    graph = {
        module: {name for _, name in imported(ast.parse(file.read_text(encoding="utf-8")), file) if name in modules}
        for module, file in modules.items()
    }
    graphlib.TopologicalSorter(graph).prepare()  # CycleError names the circle


@pytest.mark.parametrize("file", sorted((SOURCE / "cli").glob("*.py")), ids=lambda file: file.stem)
def test_the_command_line_imports_nothing_heavy_at_once(file: Path) -> None:
    light = sys.stdlib_module_names | {"typer", "typing_extensions"}
    own = {"yuwen", "yuwen.errors", "yuwen.cli", "yuwen.__version__"}
    heavy = [
        f"{file.name}:{line} imports {name}"
        for line, name in imported(at_import_time(ast.parse(file.read_text(encoding="utf-8"))), file)
        if name.split(".")[0] not in light and name not in own and not name.startswith("yuwen.cli.")
    ]
    assert not heavy, f"import these inside the command, so that --help stays fast: {heavy}"


def test_text_never_imports_torch() -> None:
    for file in (SOURCE / "text").rglob("*.py"):
        names = [name.split(".")[0] for _, name in imported(ast.parse(file.read_text(encoding="utf-8")), file)]
        assert "torch" not in names, file


def test_help_loads_no_heavy_module() -> None:
    heavy = ["torch", "numpy", "tokenizers", "transformers", "pyarrow", "pydantic", "rich", "yaml", "huggingface_hub"]
    code = "import sys\nfrom yuwen.cli.main import run\nstatus = run(['--help'])\n"
    code += f"print([name for name in {heavy} if name in sys.modules], status, file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stderr.strip().splitlines()[-1] == "[] 0"
