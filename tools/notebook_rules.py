"""The rules that the notebooks keep.

    python tools/notebook_rules.py                 # all notebooks
    python tools/notebook_rules.py notebooks/01_boxes.ipynb

What breaks a rule is an error. `EXEMPT` lists chapters that do not keep a rule yet: for
them it is a warning.
"""

import argparse
import ast
import base64
import re
import sys
from pathlib import Path

from notebooks import (
    MAX_PICTURE,
    NOTEBOOKS,
    code_cells,
    is_stale,
    parse,
    pictures,
    read,
    tags,
)

MAX_LINES = 15  # of a code cell, imports not counted
MAX_CELLS = 70  # that a reader sees in a chapter
MAX_WORDS = 3000  # of prose in a chapter
MAX_MINUTES = 30  # to read a chapter without its exercises, to the nearest five
MAX_JUDGE = 3  # lines of an exercise's check that need no folding

# Names that every figure, explorer or box of a chapter may take anew.
REUSED = {
    *("fig", "ax", "axes", "look"),  # of the figure at hand, and how it draws
    *("sliders", "start", "alt", "figure"),  # what an explorer is made of, and it
    *("x1", "y1", "x2", "y2"),  # the corners of the box at hand, as all the book has it
    "_",  # what is left unused
}

# Chapters, by number, that do not keep a rule yet. Strike out what is done.
EXEMPT = {
    "cells": {},
    "words": {},
    "minutes": {},
    "imports": {},
    "judges": {},
    "names": {},
}


def lint(path):
    """What is wrong with a notebook, a line each."""
    notebook = read(path)
    problems = [*_hard(notebook)]
    for rule, found in _soft(notebook):
        if not _exempt(path, rule):
            problems.append(found)
    return [f"{path.name} {problem}" for problem in problems]


def warnings(path):
    """What a chapter is still allowed to do wrong, a line each."""
    found = [(rule, text) for rule, text in _soft(read(path))]
    lines = [f"{path.name} {text}" for rule, text in found if _exempt(path, rule)]
    done = [r for r in EXEMPT if _exempt(path, r) and r not in dict(found)]
    if done:
        lines.append(f"{path.name} needs no exemption any more from: {', '.join(done)}")
    return lines


def _exempt(path, rule):
    return path.stem[:2] in EXEMPT[rule]


# ---- Rules without exemption -------------------------------------------------------


def _hard(notebook):
    cells = code_cells(notebook)
    if is_stale(notebook):
        yield (
            "is stale: its code or rpn_lib changed since it was run; run make notebooks"
        )
    counts = [cell.execution_count for cell in cells]
    if counts != list(range(1, len(cells) + 1)):
        yield f"was not run once from top to bottom: execution counts are {counts}"
    for number, cell in enumerate(cells, start=1):
        for problem in (*_code(cell), *_outputs(cell), *_pictures(cell)):
            yield f"cell [{number}] {problem}"
    yield from _guards(notebook)
    yield from _exercises(cells)
    yield from _lead(notebook)


def _code(cell):
    lines = cell.source.rstrip().splitlines()
    count = code_lines(cell.source)
    if count > MAX_LINES:
        yield f"has {count} lines besides imports; {MAX_LINES} are the most"
    if not lines:
        yield "is empty"
    elif lines[-1].rstrip().endswith(";"):
        yield "ends with a semicolon; end with a value or plt.show()"


def code_lines(source):
    """Lines of a cell that are neither blank nor imports, comments included."""
    taken = set()
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            taken |= set(range(node.lineno, node.end_lineno + 1))
    return sum(
        bool(line.strip()) and number not in taken
        for number, line in enumerate(source.splitlines(), start=1)
    )


def _outputs(cell):
    for output in cell.outputs:
        if output.output_type == "stream" and output.name == "stderr":
            yield f"prints to stderr: {output.text.strip()[:80]!r}"
        if output.output_type == "error":
            yield f"ends with {output.ename}"
        if output.output_type == "stream" and re.search(
            r"/(home|root|tmp|Users|usr)/", output.text
        ):
            yield "prints a path of one machine"


def _pictures(cell):
    found = list(pictures(cell))
    if "data-picture" in tags(cell) and (
        found or any("text/html" in o.get("data", {}) for o in cell.outputs)
    ):
        yield "shows a photograph that must not be stored: run make notebooks"
    for _, content in found:
        if len(base64.b64decode(content)) > MAX_PICTURE:
            yield f"has a picture of more than {MAX_PICTURE // 1000} KB"
    # An explorer carries its own text.
    bare = any("text/html" not in o.data for o in cell.outputs if "data" in o)
    if (found and bare) or "data-picture" in tags(cell):
        image = cell.metadata.get("mystnb", {})
        if not image.get("image", {}).get("alt"):
            yield "has a picture without alt text (metadata mystnb.image.alt)"
        if not image.get("figure", {}).get("caption"):
            yield "has a picture without a caption (metadata mystnb.figure.caption)"


def _guards(notebook):
    """Cells that the page leaves out hold asserts, and stand below what they guard."""
    above, number = None, 0
    for cell in notebook.cells:
        number += cell.cell_type == "code"
        if "remove-cell" in tags(cell):
            where = f"cell [{number}], tagged remove-cell,"
            if cell.cell_type != "code":
                yield f"{where} is no code: delete it"
            if above is None:
                yield f"{where} does not follow a cell that readers see"
        above = cell


def _exercises(cells):
    """Each check fails on the stub, and passes after the solution that follows it."""
    stubs = solutions = 0
    for number, cell in enumerate(cells, start=1):
        text = "".join(
            str(o.get("data", {}).get("text/plain", "")) for o in cell.outputs
        )
        if "exercise-check" in tags(cell):
            stubs += 1
            if "Not yet" not in text:
                yield f"cell [{number}] checks an unsolved exercise but says {text!r}"
        if "solution" in tags(cell):
            solutions += 1
            if "Correct." not in text:
                yield f"cell [{number}] is a solution but its check says {text!r}"
            folded = cell.metadata.get("jupyter", {}).get("source_hidden")
            if "hide-cell" not in tags(cell) or not folded:
                yield f"cell [{number}] is a solution and not folded"
    if stubs < 3:
        yield f"has {stubs} exercises; three are the least"
    if stubs != solutions:
        yield f"has {stubs} exercises but {solutions} solutions"


def _lead(notebook):
    first = notebook.cells[0]
    named = re.search(r"attachment:(lead\.\w+)", first.source)
    if not first.source.startswith("# ") or not named:
        yield "does not begin with a title and the picture lead.png"
    elif not first.get("attachments", {}).get(named[1]):
        yield "has no lead picture; tag a cell lead-picture and run make notebooks"


# ---- Rules with exemptions ---------------------------------------------------------


def _soft(notebook):
    """`(rule, what is wrong)` for each."""
    cells = code_cells(notebook)
    seen = sum("remove-cell" not in tags(cell) for cell in notebook.cells)
    if seen > MAX_CELLS:
        yield "cells", f"shows {seen} cells; {MAX_CELLS} are the most"
    words = sum(
        count_words(cell.source)
        for cell in notebook.cells
        if cell.cell_type == "markdown"
    )
    if words > MAX_WORDS:
        yield "words", f"has {words} words of prose; {MAX_WORDS} are the most"
    minutes = round(reading_minutes(notebook) / 5) * 5
    prose = "\n".join(cell.source for cell in notebook.cells)
    stated = re.search(r"\*\*Time\*\*: (\d+) minutes to read", prose)
    if minutes > MAX_MINUTES:
        yield "minutes", f"takes {minutes} minutes to read; {MAX_MINUTES} are the most"
    elif stated and int(stated[1]) != minutes:
        yield "minutes", f"should say **Time**: {minutes} minutes to read"
    importing = [
        number
        for number, cell in enumerate(cells, start=1)
        if any(isinstance(n, ast.Import | ast.ImportFrom) for n in _body(cell))
    ]
    if importing not in ([], [1], [1, 2]):  # the first looks for rpn_lib, no more
        yield "imports", f"imports in cells {importing}; do it all in the second"
    if importing == [1, 2] and not _is_folded(cells[1]):
        yield "imports", "cell [2] imports what the chapter uses: tag it hide-input"
    for number, cell in enumerate(cells, start=1):
        long = code_lines(cell.source) > MAX_JUDGE
        if "exercise-check" in tags(cell) and long and not _is_folded(cell):
            yield "judges", f"cell [{number}] judges an answer: tag it hide-input"
    for problem in rebound(cells):
        yield "names", problem


def _is_folded(cell):
    return {"hide-input", "hide-cell", "remove-cell"} & {*tags(cell)}


def _body(cell):
    return parse(cell.source).body


def count_words(markdown):
    """Words that a reader reads: formulas and code count one each, addresses none."""
    text = re.sub(r"```.*?```|\$\$.*?\$\$|<!--.*?-->", " ", markdown, flags=re.DOTALL)
    text = re.sub(r"!\[.*?\]\(.*?\)", " ", text, flags=re.DOTALL)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    text = re.sub(r"\$[^$]+\$|`[^`]+`", "x", text)
    return len(re.findall(r"\w[\w’'.,-]*", text))


def reading_minutes(notebook):
    """By the clock: 200 words a minute, 10 seconds a line of code that isn't folded.

    Exercises and references are not counted; the printed source of the library is.
    """
    words = lines = 0
    reads = True
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for part in re.split(r"^(?=## )", cell.source, flags=re.MULTILINE):
                if part.startswith("## "):
                    reads = "Exercises" not in part.splitlines()[0]
                words += reads * count_words(part.partition("**References**")[0])
        elif reads and not {"remove-cell", "hide-cell"} & {*tags(cell)}:
            lines += 0 if _is_folded(cell) else code_lines(cell.source)
            lines += sum(_source_lines(output) for output in cell.outputs)
    return words / 200 + lines / 6


def _source_lines(output):
    """Lines of Python that a cell has printed."""
    text = output.text if output.output_type == "stream" else ""
    if not re.search(r"^\s*(@\w+$|def \w+\(|class \w+[(:])", text, flags=re.MULTILINE):
        return 0
    return sum(bool(line.strip()) for line in text.splitlines())


def rebound(cells):
    """Names that stand for two things in a chapter, so that order decides which."""
    meanings = {}  # of each name: (kind, cell number, what is imported)
    assigned = {}  # of each name: the cells that give it a value
    for number, cell in enumerate(cells, start=1):
        tree = parse(cell.source)
        is_solution = "solution" in tags(cell)  # which is the stub anew
        for name, kind, source in bindings(tree):
            if not (kind == "function" and is_solution):
                meanings.setdefault(name, []).append((kind, number, source))
        for name in set() if is_solution else assignments(tree) - REUSED:
            assigned.setdefault(name, []).append(number)
    for name, found in meanings.items():
        kinds = {kind for kind, *_ in found}
        sources = {source for kind, _, source in found if kind == "import"}
        where = f"[{'], ['.join(map(str, dict.fromkeys(n for _, n, _ in found)))}]"
        if len(kinds) > 1:
            yield f"{name} is {' and '.join(sorted(kinds))} in cells {where}"
        elif len(sources) > 1:
            yield f"{name} is imported from {' and '.join(sorted(sources))}"
        elif kinds == {"function"} and len(found) > 1:
            yield f"{name} is defined anew in cells {where}"
        elif kinds == {"value"} and len(assigned.get(name, ())) > 1:
            where = f"[{'], ['.join(map(str, assigned[name]))}]"
            yield f"{name} is given a value anew in cells {where}"


def assignments(tree):
    """Names to which a cell assigns, outside functions.

    Targets of loops and `with` are not among them, which live for a few lines; nor is
    `x += 1`, which goes on with what `x` is.
    """
    return {
        name.id
        for node in _outside_functions(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr)
        for target in getattr(node, "targets", None) or [node.target]
        for name in ast.walk(target)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    }


def bindings(tree):
    """`(name, kind, what is imported)` of all that a cell binds outside functions.

    The kind is import, function (or class), or value.
    """
    for node in _outside_functions(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield node.name, "function", ""
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", "") or ""
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                full = alias.name if alias.asname else name
                yield name, "import", f"{module}.{full}".strip(".")
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            for target in node.targets:
                yield ast.unparse(target), "function", ""
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, "value", ""


def _outside_functions(tree):
    """The nodes of a cell that run in its own scope."""
    inner = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, inner):
            continue
        yield node
        lambdas = isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda)
        if not isinstance(node, functions) and not lambdas:
            yield from _outside_functions(node)


def main():
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="only these notebooks")
    files = parser.parse_args().files or NOTEBOOKS
    for path in files:
        for line in warnings(path):
            print(f"warning: {line}")
    problems = [problem for path in files for problem in lint(path)]
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
