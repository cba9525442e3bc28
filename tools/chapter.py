"""Begin a chapter: a copy of the template, run and saved.

    python tools/chapter.py 15_masks "Masks"

The template, `tools/chapter.ipynb`, keeps all rules of `notebook_rules.py`. So does the
copy, until it is written anew piece by piece.
"""

import argparse
import json
import re
import sys

import repository

import notebooks


def begin(name, title, folder):
    """Write the new notebook, not yet run; its path.

    Args:
        name: two digits, an underscore and a word, `15_masks`.
        title: what the chapter is called, `Masks`.
        folder: the other chapters are there; its first one has the set-up cell.
    """
    if not re.fullmatch(r"\d\d_[a-z][a-z0-9_]*", name):
        sys.exit(f"NAME={name!r} must be like 15_masks: two digits, _, small letters.")
    path = folder / f"{name}.ipynb"
    if path.exists() or list(folder.glob(f"{name[:2]}_*.ipynb")):
        sys.exit(
            f"There is a chapter {name[:2]} already in {folder}: take a new number."
        )
    made = json.loads(notebooks.TEMPLATE.read_text("utf-8"))
    first = made["cells"][0]
    text = "".join(first["source"])
    text = text.replace("# 0. Title of the chapter", f"# {int(name[:2])}. {title}", 1)
    first["source"] = text.splitlines(keepends=True)
    like = sorted(folder.glob("[0-9][0-9]_*.ipynb"))[0]
    setup = repository.setup_cell(json.loads(like.read_text("utf-8")))
    repository.setup_cell(made)["source"] = setup["source"]
    path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return path


def main():
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="for example 15_masks")
    parser.add_argument("title", nargs="?", help="of the chapter (default: its name)")
    options = parser.parse_args()
    title = options.title or options.name[3:].replace("_", " ").capitalize()
    path = begin(options.name, title, notebooks.ROOT / "notebooks")
    notebooks.execute(path)
    print(
        f"wrote {path.relative_to(notebooks.ROOT)}. Now name it in _toc.yml and in the "
        f"table of book/intro.md, write it, and try it: make check-chapter "
        f"NAME={options.name}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
