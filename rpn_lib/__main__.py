"""`python -m rpn_lib`: the same as the command `rpn`."""

from rpn_lib.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
