"""Printed source is that of the library, less the docstrings."""

import ast
import inspect

from rpn_lib.boxes import box_intersection, check_boxes
from rpn_lib.figures.source import show_source
from rpn_lib.head import RPNHead


def bare(code):
    """The syntax tree of some code, without docstrings."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        documented = isinstance(node, (ast.FunctionDef, ast.ClassDef))
        if documented and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def test_only_docstrings_are_left_out(capsys):
    for function in (box_intersection, check_boxes, RPNHead):
        show_source(function)
        printed = capsys.readouterr().out
        assert '"""' not in printed
        assert ast.dump(ast.parse(printed)) == bare(inspect.getsource(function))


def test_several_stand_one_after_the_other(capsys):
    show_source(box_intersection, check_boxes)
    printed = capsys.readouterr().out
    names = [node.name for node in ast.parse(printed).body]
    assert names == ["box_intersection", "check_boxes"]
