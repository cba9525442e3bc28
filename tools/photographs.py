"""The chapters on photographs whose pictures are not stored in the repository.

    python tools/photographs.py make       # their pictures, for the pages of the book
    python tools/photographs.py runnable   # the notebooks that can be run here

A cell tagged `data-picture` shows photographs of a data set, BCCD. `make` runs each
chapter with such cells where the data set is on this machine, and leaves the pictures
in `_build/photographs`, from where `book/_ext/rpn_photographs.py` puts them into the
pages. What is there of the same code, library and data is not made again.
"""

import argparse
import hashlib
import json
import os
import re
import sys

from nbclient.exceptions import CellExecutionError

from notebooks import NOTEBOOKS, ROOT, code_cells, digest, read, run, tags, tidy
from rpn_lib.data.samples import bccd, content_digest, find_bccd
from rpn_lib.errors import DataError

KEPT = ROOT / "_build" / "photographs"


def chapters(paths=NOTEBOOKS):
    """Those that show photographs of the data set."""
    return [path for path in paths if any(map(is_photograph, read(path).cells))]


def is_photograph(cell):
    """Whether a cell shows pictures that must not be stored."""
    return "data-picture" in tags(cell)


def make(paths, folder, data):
    """Leave the pictures of each chapter in a file, and say how it went.

    Args:
        paths: the chapters.
        folder: where the files go.
        data: the folder of the data set; `None` where it is not here.

    Returns:
        sentences on chapters that could not be run.
    """
    failed = []
    for path in paths:
        kept = folder / f"{path.stem}.json"
        if data is None:
            kept.unlink(missing_ok=True)
            print(
                f"{path.name}: without photographs. BCCD is neither in RPN_DATA nor "
                "in the cache; the page says how to get it."
            )
            continue
        notebook = read(path)
        key = hashlib.sha256(
            f"{digest(notebook)} {content_digest(data)}".encode()
        ).hexdigest()
        if kept.is_file() and json.loads(kept.read_text())["key"] == key:
            continue
        kept.unlink(missing_ok=True)  # a page without pictures, rather than with others
        print(f"{path.name}: running it for its photographs (a minute or two)")
        try:
            run(notebook, path.parent)
        except CellExecutionError as error:
            failed.append(f"{path.name} {trouble(error)}")
            continue
        folder.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        part.write_text(json.dumps({"key": key, "cells": pictures(notebook)}))
        part.replace(kept)
    return failed


def trouble(error):
    """What stopped a chapter, in one line."""
    said = re.sub(r"\x1b\[[\d;]*m", "", f"{error.ename}: {error.evalue}")
    return f"cannot be run with the photographs: {' '.join(said.split())}"


def pictures(notebook):
    """Of each cell with photographs its source and the bundles that it shows."""
    return {
        cell.id: {
            "source": cell.source,
            "shown": [o.data for o in tidy(cell.outputs) if "data" in o],
        }
        for cell in code_cells(notebook)
        if is_photograph(cell)
    }


def runnable(paths=NOTEBOOKS):
    """The notebooks that can be run here; the data set is downloaded if need be.

    Returns:
        their paths, and a sentence on those that are left out, or `None`.
    """
    needing = chapters(paths)
    try:
        if needing:
            bccd(progress=False)
    except DataError as error:
        names = ", ".join(path.name for path in needing)
        return [p for p in paths if p not in needing], f"NOT RUN: {names}. {error}"
    return list(paths), None


def main():
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=["make", "runnable"])
    if parser.parse_args().task == "make":
        try:
            failed = make(chapters(), KEPT, find_bccd())
        except DataError as error:
            failed = [str(error)]
        print("\n".join(failed), file=sys.stderr, end="\n" if failed else "")
        return 1 if failed else 0
    found, left_out = runnable()
    print("\n".join(os.path.relpath(path) for path in found))
    if left_out:
        print(left_out, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
