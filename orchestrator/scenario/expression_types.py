"""Find what cannot be computed in an expression before any row is there.

Types are those of literals, functions, operators and parameters; what a field of a row holds is known only
when the row is reported, and fits everything.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

__all__ = ["FIELD", "TypeMismatch", "type_of"]

NUMBER, TEXT, TRUTH, NOTHING, LIST = "a number", "text", "true or false", "nothing", "a list"
FIELD = "a field"
"""The type of what is not known before the run."""

_NUMERIC = (NUMBER, TRUTH, FIELD)
_ORDER = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_ARGUMENTS: Mapping[str, tuple[int, int]] = {
    "abs": (1, 1),
    "len": (1, 1),
    "max": (1, 100),
    "min": (1, 100),
    "near": (3, 3),
    "round": (1, 2),
    "startswith": (2, 2),
}
_OF_NUMBERS = ("abs", "near", "round")


class TypeMismatch(Exception):
    """A part of an expression can never be computed.

    Args:
        message: Why, as a sentence.
        node: The part.
    """

    def __init__(self, message: str, node: ast.expr) -> None:
        super().__init__(message)
        self.message, self.node = message, node


def type_of(node: ast.expr, params: Mapping[str, str]) -> str:
    """Return the type of an expression whose syntax has been checked.

    Args:
        node: The expression.
        params: The types of parameters that are known.

    Raises:
        TypeMismatch: Something in it can never be computed.
    """
    match node:
        case ast.Constant(value=value):
            return _literal(value)
        case ast.Attribute(attr=name):
            return params.get(name, FIELD)
        case ast.BoolOp(values=parts):
            kinds = {type_of(part, params) for part in parts}
            return kinds.pop() if len(kinds) == 1 else FIELD
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            type_of(operand, params)
            return TRUTH
        case ast.UnaryOp(operand=operand):
            return _number(operand, params)
        case ast.BinOp(left=left, op=op, right=right):
            _number(left, params)
            _number(right, params)
            _refuse_zero(op, right)
            return NUMBER
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            for part in parts:
                type_of(part, params)
            return LIST
        case ast.Compare(left=left, ops=ops, comparators=others):
            _compared(left, ops, others, params)
            return TRUTH
        case ast.Call(func=ast.Name(id=name), args=args):
            return _called(node, name, args, params)
        case _:
            return FIELD


def _literal(value: object) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return TRUTH
    return TEXT if isinstance(value, str) else NUMBER


def _number(node: ast.expr, params: Mapping[str, str]) -> str:
    kind = type_of(node, params)
    if kind not in _NUMERIC:
        raise TypeMismatch(f"`{ast.unparse(node)}` is {kind}, but arithmetic is for numbers", node)
    return NUMBER


def _refuse_zero(op: ast.operator, right: ast.expr) -> None:
    divides = isinstance(op, (ast.Div, ast.FloorDiv, ast.Mod))
    if divides and isinstance(right, ast.Constant) and right.value == 0:
        raise TypeMismatch("nothing can be divided by 0", right)


def _compared(
    left: ast.expr, ops: Sequence[ast.cmpop], others: Sequence[ast.expr], params: Mapping[str, str]
) -> None:
    for op, right in zip(ops, others, strict=True):
        a, b = type_of(left, params), type_of(right, params)
        if isinstance(op, _ORDER) and not _ordered(a, b):
            raise TypeMismatch(
                f"`{ast.unparse(left)}` is {a} and `{ast.unparse(right)}` is {b}, which have no order", right
            )
        if isinstance(op, (ast.In, ast.NotIn)) and b not in (TEXT, LIST, FIELD):
            raise TypeMismatch(f"`{ast.unparse(right)}` is {b}, and nothing can be in it", right)
        if isinstance(op, (ast.In, ast.NotIn)) and b == TEXT and a not in (TEXT, FIELD):
            raise TypeMismatch(f"`{ast.unparse(left)}` is {a}, which cannot be in text", left)
        left = right


def _ordered(a: str, b: str) -> bool:
    if FIELD in (a, b):
        return NOTHING not in (a, b)
    return (a in _NUMERIC and b in _NUMERIC) or (a == b and a in (TEXT, LIST))


def _called(node: ast.expr, name: str, args: Sequence[ast.expr], params: Mapping[str, str]) -> str:
    least, most = _ARGUMENTS[name]
    if not least <= len(args) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise TypeMismatch(f"`{name}` takes {wanted} values, not {len(args)}", node)
    kinds = [type_of(arg, params) for arg in args]
    if name in _OF_NUMBERS:
        for arg in args:
            _number(arg, params)
        return NUMBER if name != "near" else TRUTH
    if name == "len":
        if kinds[0] not in (TEXT, LIST, FIELD):
            raise TypeMismatch(f"`{ast.unparse(args[0])}` is {kinds[0]}, which has no length", args[0])
        return NUMBER
    if name == "startswith":
        if kinds[1] not in (TEXT, FIELD):
            raise TypeMismatch(f"`{ast.unparse(args[1])}` is {kinds[1]}, but text is expected", args[1])
        return TRUTH
    if len(args) == 1 and kinds[0] not in (LIST, TEXT, FIELD):
        raise TypeMismatch(f"`{name}` of one value needs a list", args[0])
    return FIELD
