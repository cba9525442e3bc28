"""The shape of the library: arrows that point down, no cycles, parts that are short."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import rpn_lib

ROOT = Path(rpn_lib.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path
    for path in sorted(ROOT.rglob("*.py"))
    if path.name not in ("__init__.py", "__main__.py")
}
# What each folder may import besides itself; "" is the core, flat in `rpn_lib`.
MAY_IMPORT = {
    "": set(),
    "data": {""},
    "figures": {"", "data"},
    "training": {"", "data"},
    "cli": {"", "data", "figures", "training"},
}
# Functions with more than eight arguments, and why.
MANY_ARGUMENTS = {
    "rpn_lib.matching.match_anchors": "the fields of MatchRule, to try one by one",
    "rpn_lib.fast.match_anchors": "the same, of its twin",
    "rpn_lib.figures.explorer.explore": "what a figure can have besides its sliders",
    "rpn_lib.rpn.RegionProposalNetwork.__init__": "the parts of the network",
}


@cache
def tree_of(name):
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def folder_of(name):
    return name.split(".")[1] if name.count(".") == 2 else ""


def imports_of(name):
    """The modules of the library that a module imports, at the top or later."""
    found = set()
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
    return {module for module in found if module.startswith("rpn_lib")}


def logic_of(name):
    """The lines of a module that are neither blank nor comment, docstring, import."""
    tree, left_out = tree_of(name), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) or is_docstring(node):
            left_out |= {*range(node.lineno, node.end_lineno + 1)}
    return {
        number
        for number, line in enumerate(
            MODULES[name].read_text(encoding="utf-8").splitlines(), start=1
        )
        if line.strip() and not line.strip().startswith("#") and number not in left_out
    }


def is_docstring(node):
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def functions_of(name):
    """`(full name, function)` of each, methods included."""

    def within(node, prefix):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef):
                full = f"{prefix}.{child.name}"
                if isinstance(child, ast.FunctionDef):
                    yield full, child
                yield from within(child, full)

    return within(tree_of(name), name)


@pytest.mark.parametrize("name", MODULES)
def test_arrows_point_down(name):
    own = folder_of(name)
    for imported in imports_of(name):
        there = folder_of(imported)
        assert there == own or there in MAY_IMPORT[own], f"{name} imports {imported}"


def test_there_is_no_cycle():
    """Not even one that an import within a function hides."""
    graph = {name: imports_of(name) & MODULES.keys() for name in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle of imports: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_read_in_one_sitting(name):
    assert len(logic_of(name)) <= 200


@pytest.mark.parametrize("name", MODULES)
def test_a_function_fits_on_a_screen(name):
    logic = logic_of(name)
    for full, function in functions_of(name):
        body = {*range(function.body[0].lineno, function.end_lineno + 1)}
        assert len(body & logic) <= 40, full


@pytest.mark.parametrize("name", MODULES)
def test_a_function_has_few_arguments(name):
    for full, function in functions_of(name):
        given = function.args.posonlyargs + function.args.args
        names = [one.arg for one in given + function.args.kwonlyargs]
        many = len([one for one in names if one not in ("self", "cls")]) > 8
        assert many == (full in MANY_ARGUMENTS), full


def test_the_rules_see_what_breaks_them():
    """Planted faults: a module that the rules look at must be able to fail."""
    assert imports_of("rpn_lib.rpn") >= {"rpn_lib.nms", "rpn_lib.padding"}
    assert folder_of("rpn_lib.training.loop") == "training"
    assert "data" not in MAY_IMPORT[folder_of("rpn_lib.nms")]
    assert MANY_ARGUMENTS.keys() <= {
        full for name in MODULES for full, _ in functions_of(name)
    }
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()
