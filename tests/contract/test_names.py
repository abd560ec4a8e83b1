"""Names and imports of the package as a whole."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import statsd

PACKAGE = Path(statsd.__file__).parent


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}


def imports_of(tree: ast.Module) -> Iterator[str]:
    """Yield the names of the modules that a module imports at its top level."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:  # a module, or a name in a module
            yield name if name in MODULES else name.rpartition(".")[0]


def test_no_two_public_classes_share_a_name() -> None:
    modules: dict[str, list[str]] = defaultdict(list)
    for module, tree in MODULES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                modules[node.name].append(module)
    assert {name: where for name, where in modules.items() if len(where) > 1} == {}


def test_no_modules_import_each_other_in_a_cycle() -> None:
    """Without the implicit imports of packages: a package may import the modules in it."""
    imports = {module: set(imports_of(tree)) & set(MODULES) for module, tree in MODULES.items()}
    assert imports["statsd.events"] == {"statsd.errors"}
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the modules
