"""The small language of a check's `where`: `state == 'complete' and seconds < 2 * params.limit`.

The syntax is a subset of Python's and is parsed by Python's parser, but not executed by Python: only the
constructs below exist. There are no calls beyond a few pure functions, no attributes but `params.NAME`, no
powers, and arithmetic is for numbers alone, so that checks of an untrusted scenario are safe to evaluate.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import UsageError, quoted
from orchestrator.scenario.expression_types import TypeMismatch, type_of

__all__ = ["Expression", "ExpressionInvalid", "MissingField"]

_LONGEST = 1_000
_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
    ast.Is: operator.eq,
    ast.IsNot: operator.ne,
}
_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": abs,
    "len": len,
    "max": max,
    "min": min,
    # Whether two numbers differ by no more than a share of the second.
    "near": lambda a, b, share: abs(_number(a) - _number(b)) <= _number(share) * abs(b),
    "round": round,
    "startswith": lambda text, start: str(text).startswith(start),
}


class ExpressionInvalid(UsageError):
    """A check's expression uses something that does not exist in the language."""

    id = "scenario.expression"

    def __init__(
        self,
        message: str,
        *,
        found: str,
        expected: str = "a comparison of row fields",
        column: int = 0,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, found=found, expected=expected, hint=hint)
        self.column = column


class MissingField(Exception):
    """A row does not have a field that an expression reads."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed expression.

    Attributes:
        text: As written.
        fields: The row fields it reads, in order.
        params: The parameters it reads.
    """

    text: str
    fields: tuple[str, ...]
    params: tuple[str, ...]
    _body: ast.expr = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Expression:
        """Read an expression.

        Raises:
            ExpressionInvalid: It is no expression, or uses more than the language has.
        """
        if len(text) > _LONGEST:
            raise ExpressionInvalid("the expression is too long", found=text[:40] + "…")
        try:
            body = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            column = getattr(error, "offset", None) or 0
            reason = getattr(error, "msg", None) or str(error)
            hint = "compare with `==`" if "=" in text and "==" not in text else None
            raise ExpressionInvalid(
                f"`{text}` does not parse: {reason}", found=text, column=column, hint=hint
            ) from None
        fields: dict[str, None] = {}
        params: dict[str, None] = {}
        _check(body, text, fields, params)
        found = cls(text, tuple(fields), tuple(params), body)
        found.type_of({})
        return found

    def type_of(self, params: Mapping[str, str]) -> str:
        """Return what it computes, as far as that is known before the run; see `expression_types`.

        Args:
            params: The types of the scenario's parameters, by name.

        Raises:
            ExpressionInvalid: It can never be computed.
        """
        try:
            return type_of(self._body, params)
        except TypeMismatch as error:
            column = error.node.col_offset + 1
            raise ExpressionInvalid(
                error.message, found=self.text, expected="values that fit each other", column=column
            ) from None

    def evaluate(self, row: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
        """Tell whether the expression holds for a row.

        Raises:
            MissingField: The row lacks a field that the expression reads.
            TypeError: Values cannot be compared or computed with.
        """
        return bool(self.value(row, params))

    def value(self, row: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
        """Return what it computes from a row; the exceptions are those of `evaluate`."""
        return _value(self._body, row, params)

    def number(self, row: Mapping[str, Any], params: Mapping[str, Any]) -> float:
        """Return what it computes from a row, which has to be a number; the rest is as for `evaluate`."""
        return float(_number(self.value(row, params)))


def _check(node: ast.expr, text: str, fields: dict[str, None], params: dict[str, None]) -> None:
    """Walk the tree once and refuse what the language does not have."""
    match node:
        case ast.Constant(value=value) if value is None or isinstance(value, (str, int, float, bool)):
            return
        case ast.Name(id=name):
            if name == "params":
                raise _refused(node, text, "`params` alone is no value", "write `params.NAME`")
            fields[name] = None
            return
        case ast.Attribute(value=ast.Name(id="params"), attr=name):
            params[name] = None
            return
        case ast.BoolOp(values=parts) | ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            below = parts
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            below = [operand]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            below = [left, right]
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARE for op in ops):
            below = [left, *others]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            below = args
        case ast.Call(func=ast.Name(id=name)):
            raise _refused(
                node, text, f"there is no function `{name}`", f"functions are {quoted(_FUNCTIONS)}"
            )
        case _:
            raise _refused(node, text, f"`{ast.unparse(node)}` is more than a check may do", None)
    for part in below:
        _check(part, text, fields, params)


def _refused(node: ast.expr, text: str, message: str, hint: str | None) -> ExpressionInvalid:
    return ExpressionInvalid(message, found=text, column=node.col_offset + 1, hint=hint)


def _value(node: ast.expr, row: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            if name not in row:
                raise MissingField(name)
            return row[name]
        case ast.Attribute(attr=name):
            return params[name]
        case ast.BoolOp(op=ast.And(), values=parts):
            return all(_value(part, row, params) for part in parts)
        case ast.BoolOp(values=parts):
            return any(_value(part, row, params) for part in parts)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, row, params)
        case ast.UnaryOp(operand=operand):
            return -_number(_value(operand, row, params))
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_number(_value(left, row, params)), _number(_value(right, row, params)))
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts):
            return [_value(part, row, params) for part in parts]
        case ast.Compare(left=left, ops=ops, comparators=others):
            return _compared(_value(left, row, params), ops, [_value(other, row, params) for other in others])
        case ast.Call(func=ast.Name(id=name), args=args):
            return _FUNCTIONS[name](*(_value(arg, row, params) for arg in args))
        case _:
            raise AssertionError("_check lets nothing else through")


def _compared(left: Any, ops: list[ast.cmpop], others: list[Any]) -> bool:
    for op, right in zip(ops, others, strict=True):
        if not _COMPARE[type(op)](left, right):
            return False
        left = right
    return True


def _number(value: Any) -> Any:
    if isinstance(value, (int, float)):
        return value
    raise TypeError(f"{value!r} is no number")
