"""Mutations: a program with one change, like a mistake that a programmer might make."""

import ast
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

_OPERATORS: dict[type[ast.AST], tuple[Any, ...]] = {
    ast.Add: (ast.Sub, ast.Mult),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add, ast.Pow),
    ast.FloorDiv: (ast.Mod,),
    ast.Mod: (ast.FloorDiv,),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt,),
    ast.Eq: (ast.NotEq, ast.GtE),
    ast.NotEq: (ast.Eq,),
    ast.And: (ast.Or,),
    ast.Or: (ast.And,),
    ast.BitAnd: (ast.BitOr, ast.BitXor),
    ast.BitOr: (ast.BitAnd,),
    ast.BitXor: (ast.BitOr,),
    ast.RShift: (ast.LShift,),
}
_METHODS = {"append": "extend", "appendleft": "append", "get": "setdefault"}


def mutations(source: str) -> list[str]:
    """Return every program that differs from the source in one operator, number, condition or jump.

    Returns:
        Different programs, as `ast.unparse` writes them.
    """
    mutated = []
    for position in range(sum(1 for _ in ast.walk(ast.parse(source)))):
        number = 0
        while True:
            tree = ast.parse(source)
            node = list(ast.walk(tree))[position]
            changes = list(_changes(node))
            if number == len(changes):
                break
            changes[number]()
            mutated.append(ast.unparse(ast.fix_missing_locations(tree)))
            number += 1
    plain = ast.unparse(ast.parse(source))
    return [program for program in dict.fromkeys(mutated) if program != plain]


def _changes(node: ast.AST) -> Iterator[Callable[[], None]]:
    """Yield the possible changes of a node, each as a function that makes the change."""
    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp):
        yield from (partial(setattr, node, "op", kind()) for kind in _OPERATORS.get(type(node.op), ()))
    if isinstance(node, ast.Compare):
        yield from (partial(node.ops.__setitem__, 0, kind()) for kind in _OPERATORS.get(type(node.ops[0]), ()))
    if isinstance(node, ast.Constant) and type(node.value) is int:
        yield from (partial(setattr, node, "value", node.value + by) for by in (1, -1))
    if isinstance(node, ast.Constant) and type(node.value) is bool:
        yield partial(setattr, node, "value", not node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        yield partial(setattr, node, "op", ast.UAdd())
    if isinstance(node, ast.Attribute) and node.attr in _METHODS:
        yield partial(setattr, node, "attr", _METHODS[node.attr])
    for name in ("body", "orelse"):
        value = getattr(node, name, None)
        body: list[Any] = value if isinstance(value, list) else []
        for row, statement in enumerate(body):
            if isinstance(statement, ast.Break | ast.Continue):
                other = ast.Continue() if isinstance(statement, ast.Break) else ast.Break()
                yield partial(body.__setitem__, row, other)
    if isinstance(node, ast.Return) and isinstance(node.value, ast.Name | ast.BinOp):
        yield partial(setattr, node, "value", ast.List([node.value], ast.Load()))
