"""Where Chromium is, for the browser tests and `make pdf`.

python tools/chromium.py           # prints it, or says how to get it
"""

import os
import shutil
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (
    "No Chromium: apt-get install chromium, or set CHROMIUM to the path of its "
    "executable"
)


def find() -> str | None:
    """The path of Chromium, or of what CHROMIUM names; `None` if there is none.

    >>> find() is None or shutil.which(find()) is not None
    True
    """
    names = [os.environ["CHROMIUM"]] if os.environ.get("CHROMIUM") else NAMES
    return next(filter(None, map(shutil.which, names)), None)


if __name__ == "__main__":
    print(find() or sys.exit(f"{MISSING}."))
