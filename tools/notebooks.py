"""Run the notebooks again and save them, and say what their outputs depend on.

    python tools/notebooks.py                      # those that are stale
    python tools/notebooks.py --all
    python tools/notebooks.py notebooks/01_boxes.ipynb

A notebook is committed with its outputs. Its metadata holds a digest, taken when it was
run, of its code cells, of the modules of `rpn_lib` that it imports, of those that these
import, and so on, and of the data files that they name. Where the digest no longer
fits, the outputs are stale. The address of the repository in the set-up cell is no part
of it. What a notebook has to look like stands in `notebook_rules.py`.
"""

import argparse
import ast
import base64
import functools
import hashlib
import io
import os
import re
import sys
import time
import warnings
from pathlib import Path

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from PIL import Image
from repository import without_address

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
TEMPLATE = ROOT / "tools" / "chapter.ipynb"  # of a chapter, see chapter.py
KEY = "rpn_book"
MAX_PICTURE = 100_000  # bytes
COMMANDS = "rpn_lib.cli"  # it imports each command by a name made when it runs

# ---- Reading -----------------------------------------------------------------------


def read(path):
    """A notebook; what is odd about the file is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # cells without ids, and the like
        return nbformat.read(path, as_version=4)


def code_cells(notebook):
    """Its code cells, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell):
    """The tags of a cell."""
    return cell.metadata.get("tags", [])


def parse(source):
    """The syntax tree of a code cell; IPython's `%magic` and `!command` are calls."""
    return ast.parse(TransformerManager().transform_cell(source))


# ---- What the outputs depend on ----------------------------------------------------


def digest(notebook, root=ROOT):
    """Of the code cells, in order, and of the files of the library behind them."""
    content = hashlib.sha256()
    for cell in code_cells(notebook):
        content.update(without_address(cell.source).encode() + b"\0")
    for path in dependencies(notebook, root):
        name = path.relative_to(root).as_posix()
        content.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return content.hexdigest()


def is_stale(notebook, root=ROOT):
    """Whether its outputs are those of other code."""
    return notebook.metadata.get(KEY, {}).get("digest") != digest(notebook, root)


def dependencies(notebook, root=ROOT):
    """The files of `rpn_lib` that the outputs of a notebook depend on, sorted."""
    library = Library(root)
    names = set()
    for cell in code_cells(notebook):
        tree = parse(cell.source)
        names |= mentioned(tree) | mentioned_in_texts(tree)
    return library.closure(names)


class Library:
    """The modules of `rpn_lib` in a folder, read but not imported."""

    def __init__(self, root):
        package = root / "rpn_lib"
        self.modules = {}
        for path in package.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            self.modules[name] = path
        self.data = {
            path.name: path
            for path in package.rglob("*")
            if path.is_file() and path.suffix not in (".py", ".pyc", ".typed")
        }
        self.home = exports(self.modules["rpn_lib"].read_text("utf-8"))

    def module(self, name):
        """The module that a dotted name lies in: of an export, where it is defined.

        `rpn_lib/__init__.py` itself only says where: another export in it changes
        nothing for a notebook that does not use it.
        """
        while name not in self.modules:
            if name.removeprefix("rpn_lib.") in self.home:
                return f"rpn_lib.{self.home[name.removeprefix('rpn_lib.')]}"
            name = name.rpartition(".")[0]
        return name

    def closure(self, names):
        """The files behind names: their modules, those that these import, and data."""
        files, waiting = set(), {self.module(name) for name in names} - {"rpn_lib"}
        done = set()
        while waiting:
            name = waiting.pop()
            done.add(name)
            path = self.modules[name]
            files.add(path)
            used, texts = module_names(path.read_text("utf-8"), name)
            files |= {self.data[text] for text in texts if text in self.data}
            # A package is run before what lies in it.
            parents = {name.rpartition(".")[0]}
            found = {self.module(n) for n in used} | parents
            if name == COMMANDS:
                found |= {m for m in self.modules if m.startswith(f"{COMMANDS}.")}
            waiting |= found - done - {"rpn_lib"}
        return sorted(files)


def exports(source):
    """`_HOME` of `rpn_lib/__init__.py`: where each exported name lives."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOME":
            return ast.literal_eval(node.value)
    return {}


@functools.cache
def module_names(source, module):
    """What a module's source uses of `rpn_lib`, and the file names in its texts."""
    tree = ast.parse(source)
    texts = {
        Path(node.value).name
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and 0 < len(node.value) < 100
    }
    return frozenset(mentioned(tree, module)), frozenset(texts)


def mentioned(tree, module=""):
    """Dotted names of `rpn_lib` that code imports, in functions too, or spells out."""
    names = set()
    for node in walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:  # from .boxes import ...
                package = module.split(".")[: -node.level]
                source = ".".join([*package, *source.split(".")]).rstrip(".")
            names |= {f"{source}.{alias.name}" for alias in node.names} | {source}
        elif isinstance(node, ast.Attribute):
            names.add(ast.unparse(node))
    return {name for name in names if re.match(r"rpn_lib(\.|$)", name)}


def walk(tree):
    """All nodes but those that only a type checker sees."""
    yield tree
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from walk(other)
        else:
            yield from walk(node)


def mentioned_in_texts(tree):
    """Names in the strings of a cell: programs and commands that it gives to others."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= set(re.findall(r"\brpn_lib(?:\.\w+)*", node.value))
            for source, imported in re.findall(
                r"from (rpn_lib[\w.]*) import ([\w, ]+)", node.value
            ):
                names |= {f"{source}.{name.strip()}" for name in imported.split(",")}
            if re.match(r"\s*(\S*python\S*\s+-m\s+rpn_lib|rpn)(\s|$)", node.value):
                names.add("rpn_lib.cli")  # !rpn train ..., ["rpn", "train", ...]
    return names


# ---- Running -----------------------------------------------------------------------


def run(notebook, folder):
    """Run a notebook in a fresh kernel; what it shows is in its cells afterwards.

    Args:
        notebook: changed in place.
        folder: where the kernel starts.
    """
    from nbclient import NotebookClient

    for cell in code_cells(notebook):
        cell.metadata.pop("execution", None)
    client = NotebookClient(
        notebook,
        timeout=900,
        record_timing=False,
        resources={"metadata": {"path": folder}},
    )
    # One thread: sums over many threads end in other digits on other machines. And a
    # backend that the user has set would keep the figures out of the notebook.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("MPLBACKEND", None)
    client.execute(env=environment)


def execute(path):
    """Run a notebook from a fresh kernel and save it, outputs and digest."""
    notebook = read(path)
    run(notebook, path.parent)
    for cell in code_cells(notebook):
        cell.outputs = tidy(cell.outputs, "data-picture" in tags(cell))
    refresh_lead_picture(notebook)
    # What a front end writes of itself differs from machine to machine.
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {
                "display_name": "Python 3",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
            KEY: {"digest": digest(notebook)},
        }
    )
    nbformat.write(notebook, path)


def tidy(outputs, drop_pictures=False):
    """Outputs as they are stored.

    Streams that came in pieces are joined. Pictures are as small as they can be; those
    of a data set that must not be passed on, in cells tagged `data-picture`, are
    dropped.
    """
    from rpn_lib.figures.pictures import encode_picture  # which takes torch

    kept = []
    for output in outputs:
        last = kept[-1] if kept else None
        if last and output.output_type == "stream" and last.get("name") == output.name:
            last.text += output.text
            continue
        data = output.get("data", {})
        if drop_pictures:
            for kind in ("image/png", "image/jpeg", "text/html"):
                data.pop(kind, None)
        elif "image/png" in data:
            picture = Image.open(io.BytesIO(base64.b64decode(data.pop("image/png"))))
            kind, content = encode_picture(picture, MAX_PICTURE)
            data[f"image/{kind}"] = base64.b64encode(content).decode()
        kept.append(output)
    return kept


def pictures(cell):
    """The kind and the content, in base64, of each picture among a cell's outputs."""
    for output in cell.outputs:
        for kind in ("png", "jpeg"):
            if f"image/{kind}" in output.get("data", {}):
                yield kind, output.data[f"image/{kind}"]


def refresh_lead_picture(notebook):
    """Copy the picture of the cell tagged `lead-picture` to the top of the chapter."""
    for cell in code_cells(notebook):
        if "lead-picture" in tags(cell):
            kind, content = list(pictures(cell))[-1]
            first, name = notebook.cells[0], f"lead.{kind}"
            first["attachments"] = {name: {f"image/{kind}": content}}
            first.source = re.sub(
                r"(?<=attachment:)lead\.\w+", name, first.source, count=1
            )


def main():
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--all", action="store_true", help="also those that are not stale"
    )
    parser.add_argument("files", nargs="*", type=Path, help="only these notebooks")
    options = parser.parse_args()
    problems = []
    for path in options.files or [*NOTEBOOKS, TEMPLATE]:
        notebook = read(path)
        never = None in [cell.execution_count for cell in code_cells(notebook)]
        if not (options.all or options.files or is_stale(notebook) or never):
            print(f"{path.name}: up to date")
            continue
        start = time.perf_counter()
        execute(path)
        print(f"{path.name}: run in {time.perf_counter() - start:.0f} s")
        problems += notebook_rules.lint(path)
        for line in notebook_rules.warnings(path):
            print(f"warning: {line}")
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    import notebook_rules

    sys.exit(main())
