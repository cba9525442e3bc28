"""Assemble the kernel of the page "The network at work", conv.wat, to conv.base64.

    python tools/assemble.py

The result is kept beside its source, so that whoever writes a page with the library
needs no assembler. A test compares the two.
"""

import base64
from pathlib import Path

from wasmtime import wat2wasm

FIGURES = Path(__file__).resolve().parent.parent / "rpn_lib" / "figures"
HEADER = 8  # bytes: magic number and version
CUSTOM = 0  # the number of a section that has no effect, such as names


def number_at(code, place):
    """An unsigned LEB128 number, and the place after it."""
    value = shift = 0
    while True:
        byte = code[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


def assemble(text):
    """What the text is assembled to, in base64, without the names of its variables."""
    code = bytes(wat2wasm(text))
    kept, place = code[:HEADER], HEADER
    while place < len(code):
        size, start = number_at(code, place + 1)
        if code[place] != CUSTOM:
            kept += code[place : start + size]
        place = start + size
    return base64.b64encode(kept).decode()


if __name__ == "__main__":
    result = assemble((FIGURES / "conv.wat").read_text("utf-8"))
    (FIGURES / "conv.base64").write_text(f"{result}\n", "utf-8")
    print(f"conv.base64: {len(base64.b64decode(result))} bytes of code")
