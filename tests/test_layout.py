"""The shape of the library: arrows that point down, no cycles, parts that are short.

Also where names come from: each is imported from the module that defines it, or, if it
is one of those that users need, from `rpn_lib` itself.
"""

import ast
import doctest
import inspect
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import rpn_lib

PACKAGE = Path(rpn_lib.__file__).parent
REPOSITORY = Path(__file__).resolve().parent.parent


def dotted(path):
    """The name of a module or, of an `__init__.py`, that of its folder."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# `rpn_lib` and `rpn_lib.__main__` are the doors: they lead everywhere.
MODULES = {
    dotted(path): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if dotted(path) not in ("rpn_lib", "rpn_lib.__main__")
}
SOURCES = sorted(
    path.relative_to(REPOSITORY)
    for folder in ("rpn_lib", "tests", "tools", "book")
    for path in (REPOSITORY / folder).rglob("*.py")
)
FOLDERS = {name for name, path in MODULES.items() if path.name == "__init__.py"}
# What each folder may import besides itself; "" is the core, flat in `rpn_lib`.
MAY_IMPORT = {
    "": set(),
    "data": {""},
    "figures": {""},
    "training": {"", "data"},
    "cli": {"", "data", "figures", "training"},
}
# Functions with more than eight arguments, and why.
MANY_ARGUMENTS = {
    "rpn_lib.figures.explorer.explore": "what a figure can have besides its sliders",
    "rpn_lib.rpn.RegionProposalNetwork.__init__": "the parts of the network",
}


@cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def folder_of(name):
    """The folder that a module lies in, or is; "" of the core."""
    part = name.split(".")[1]
    return part if f"rpn_lib.{part}" in FOLDERS else ""


def module_of(name):
    """The module that holds what a dotted name stands for.

    `rpn_lib.train` is found where it is defined: `rpn_lib` only lends its name to it.
    """
    exported = rpn_lib._HOME.get(name.removeprefix("rpn_lib."))
    if exported is not None:
        return f"rpn_lib.{exported}"
    while name not in MODULES and "." in name:
        name = name.rpartition(".")[0]
    return name


def imported_names(tree):
    """`(module, name)` of what code imports of the library, at the top or later.

    Of `import rpn_lib.boxes` the name is "".
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"a relative import: {ast.unparse(node)}"
            found = [(node.module, alias.name) for alias in node.names]
        else:
            continue
        yield from (one for one in found if one[0].split(".")[0] == "rpn_lib")


def imports_of(tree):
    """The modules of the library that code of the library imports.

    `rpn_lib` itself is left out: of its names, those count that are imported from it.
    """
    names = {*imported_names(tree)}
    assert ("rpn_lib", "") not in names, "`import rpn_lib` doesn't say what it is for"
    return {module_of(f"{module}.{name}") for module, name in names} - {"rpn_lib"}


@cache
def defined_in(path):
    """The names that a module defines itself, at the top."""
    names, waiting = set(), [*tree_of(path).body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        else:  # `try:` and `if` too
            waiting += ast.iter_child_nodes(node)
    return names


def is_at_home(module, name):
    """Whether a name may be imported from a module.

    It may if the module defines it, or is the folder of the module of this name, and
    from `rpn_lib` if it is one of the names that users need.
    """
    if not name or f"{module}.{name}" in MODULES:
        return True
    if module == "rpn_lib" and name in rpn_lib._HOME:
        return True
    path = MODULES.get(module, PACKAGE / "__init__.py")
    return module in {"rpn_lib", *MODULES} and name in defined_in(path)


def away_from_home(tree):
    """What code and its examples import from a module that only imports it too."""
    examples = (
        ast.parse(example.source)
        for node in ast.walk(tree)
        if is_docstring(node)
        for example in doctest.DocTestParser().get_examples(node.value.value)
    )
    names = {one for part in (tree, *examples) for one in imported_names(part)}
    return {
        f"{module}.{name}" for module, name in names if not is_at_home(module, name)
    }


def wrong_references(tree):
    """Dotted names in docstrings that lead nowhere, or not to the home of the name."""
    texts = [node.value.value for node in ast.walk(tree) if is_docstring(node)]
    found = {
        name for text in texts for name in re.findall(r"`(rpn_lib\.[\w.]+)`", text)
    }
    return {name for name in found if not leads_somewhere(name)}


def half_phrases(tree):
    """Arguments and attributes that docstrings explain by half a phrase, "of NMS"."""
    texts = [
        inspect.cleandoc(one.value.value) for one in ast.walk(tree) if is_docstring(one)
    ]
    listed = re.compile(r"^(?:Args|Attributes):\n((?: .*\n|\n)+)", re.MULTILINE)
    entries = "".join(part for text in texts for part in listed.findall(f"{text}\n"))
    return re.findall(r"^    (\S[^:\n]*):\s+of\s", entries, re.MULTILINE)


def leads_somewhere(name):
    """Whether a dotted name is a module's, or that of what is defined in one."""
    if name in MODULES:
        return True
    module = name
    while module not in MODULES and module != "rpn_lib":
        module = module.rpartition(".")[0]
    return is_at_home(module, name.removeprefix(f"{module}.").split(".")[0])


def against_the_arrows(name, tree):
    """What a module imports and must not, by the folder that it lies in."""
    own = folder_of(name)
    allowed = {own} | MAY_IMPORT[own]
    return {there for there in imports_of(tree) if folder_of(there) not in allowed}


def logic_of(name):
    """The lines of a module that are neither blank nor comment, docstring, import."""
    tree, left_out = tree_of(MODULES[name]), set()
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

    return within(tree_of(MODULES[name]), name)


@pytest.mark.parametrize("name", MODULES)
def test_arrows_point_down(name):
    against = against_the_arrows(name, tree_of(MODULES[name]))
    assert not against, f"{name} imports {against}"


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_names_are_imported_from_their_home(path):
    tree = tree_of(REPOSITORY / path)
    assert not away_from_home(tree)
    assert not wrong_references(tree)


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_each_argument_is_explained_by_a_whole_phrase(path):
    assert not half_phrases(tree_of(REPOSITORY / path))


def test_the_library_names_each_of_its_modules_once():
    """In its docstring, in groups: a new module needs a place among the others."""
    core = [name.split(".")[1] for name in MODULES if folder_of(name) == ""]
    folders = [name.split(".")[1] for name in FOLDERS]
    named = re.findall(r"`(\w+)`", rpn_lib.__doc__)
    assert sorted(named) == sorted(core + folders)


def test_the_names_of_users_are_at_home():
    for name, module in rpn_lib._HOME.items():
        assert name in defined_in(MODULES[f"rpn_lib.{module}"]), name


def test_rpn_lib_offers_the_names_of_users_and_nothing_else():
    assert dir(rpn_lib) == sorted(rpn_lib._HOME) == sorted(rpn_lib.__all__)


def test_type_checkers_find_the_names_where_they_are_loaded_from():
    seen = {
        name: module.removeprefix("rpn_lib.")
        for module, name in imported_names(tree_of(PACKAGE / "__init__.py"))
    }
    assert seen == rpn_lib._HOME


def test_there_is_no_cycle():
    """Not even one that an import within a function hides."""
    graph = {name: imports_of(tree_of(path)) for name, path in MODULES.items()}
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


@pytest.mark.parametrize(
    "planted",
    [
        "from rpn_lib import train",
        "from rpn_lib.training import loop",
        "from rpn_lib.cli import main",
        "import rpn_lib.training.loop",
        "def later():\n    from rpn_lib.data import batches",
    ],
)
def test_what_the_core_must_not_import_is_seen(planted):
    assert against_the_arrows("rpn_lib.nms", ast.parse(planted))


@pytest.mark.parametrize(
    "planted", ["from .training.loop import train", "from . import rpn"]
)
def test_relative_imports_are_refused(planted):
    with pytest.raises(AssertionError, match="relative"):
        imports_of(ast.parse(planted))


@pytest.mark.parametrize(
    "planted",
    [
        "from rpn_lib.rpn import pad_images",
        "from rpn_lib.training import train",
        "from rpn_lib import pad_images",
        "def example():\n    '''\n    >>> from rpn_lib.rpn import pad_images\n    '''",
    ],
)
def test_an_import_from_elsewhere_is_seen(planted):
    assert away_from_home(ast.parse(planted))


def test_a_reference_to_nothing_is_seen():
    for name in ("rpn_lib.rpn.pad_images", "rpn_lib.shape.suggest", "rpn_lib.nobody"):
        assert wrong_references(ast.parse(f"'''See `{name}`.'''")) == {name}


def test_half_a_phrase_is_seen():
    planted = """class A:
    '''A selector.

    Attributes:
        first, second: of a box,
            pixels.
        limit: the number of NMS: of boxes.

    Raises:
        Error: of files.
    '''
    def f():
        '''Cut.

        Args:
            **more: of NMS.
        '''
"""
    assert half_phrases(ast.parse(planted)) == ["first, second", "**more"]


def test_the_rules_see_what_breaks_them():
    """Planted faults: a module that the rules look at must be able to fail."""
    rpn = imports_of(tree_of(MODULES["rpn_lib.rpn"]))
    assert rpn >= {"rpn_lib.nms", "rpn_lib.padding"}
    assert imports_of(tree_of(MODULES["rpn_lib.cli"])) >= {"rpn_lib.cli.parser"}
    assert folder_of("rpn_lib.training.loop") == folder_of("rpn_lib.training")
    assert {*map(folder_of, MODULES)} == MAY_IMPORT.keys()
    assert MANY_ARGUMENTS.keys() <= {
        full for name in MODULES for full, _ in functions_of(name)
    }
    with pytest.raises(CycleError):
        TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()
