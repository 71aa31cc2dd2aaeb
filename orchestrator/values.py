"""Validate values that are sent and stored, and make texts safe.

A value that a role reports or publishes travels as msgpack, is kept as `jsonb` and is written to files as
JSON. What passes `plain_value` can take all three ways unchanged:

    null, true, false
    integers     from -2**63 to 2**64 - 1, which is what msgpack holds
    floats       finite ones; NaN and the infinities are no JSON
    texts        without lone surrogates, which are no UTF-8, and the character 0, which `jsonb` refuses
    lists        of such values; tuples become lists
    maps         from texts to such values

nested at most `MAX_DEPTH` deep, and at most `MAX_VALUE_BYTES` in all. Data is never changed to make it fit:
it is refused, with the path of what is wrong. Texts that are only read by people (logs, errors, tracebacks)
are made to fit instead, by `safe_text`.
"""

from __future__ import annotations

import math
from typing import Any, Literal

__all__ = [
    "ABANDONED",
    "MAX_DEPTH",
    "MAX_ERROR_BYTES",
    "MAX_INTEGER",
    "MAX_LOG_BYTES",
    "MAX_NAME_BYTES",
    "MAX_TRACEBACK_BYTES",
    "MAX_VALUE_BYTES",
    "MIN_INTEGER",
    "ValueRefused",
    "brief",
    "checked_name",
    "plain_value",
    "safe_text",
]

ABANDONED = "was abandoned"
"""What the error of a role says that did not end when it was stopped, and still runs."""

MAX_DEPTH = 32
"""Lists and maps inside each other; the JSON libraries in use stop somewhere between 100 and 1,000."""

MAX_VALUE_BYTES = 1024 * 1024
"""Bytes of one row or published value: a quarter of a control message, which carries it with its header."""

MAX_NAME_BYTES = 1024
"""Bytes of a key or a name. Postgres indexes at most 2,704 bytes, and a run's id is in the same index."""

MAX_ERROR_BYTES = 4 * 1024
"""Bytes of the sentence that says why a role or a run failed."""

MAX_TRACEBACK_BYTES = 64 * 1024
"""Bytes of a traceback: one of a recursion has a thousand entries, of which the ends tell the story."""

MAX_LOG_BYTES = 16 * 1024
"""Bytes of one line of a log."""

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**64 - 1
"""The integers that msgpack holds."""

_PATH_BYTES = 200
_NUMBER_BYTES = 9
_HEADER_BYTES = 5
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class ValueRefused(ValueError):
    """A value that cannot be sent, or not be stored.

    Attributes:
        reason: What is wrong with it, without a subject: `is an integer outside …`.
        path: Where in the value it is, such as `rtt[3].min`; empty for the value itself.
        found: The offending part, in a few words.
        expected: What would have been right.
    """

    def __init__(self, reason: str, *, path: str = "", found: str = "", expected: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        return f"`{self.path}` {self.reason}" if self.path else self.reason

    def below(self, step: str) -> ValueRefused:
        """Return the same, with one more step in front of its path."""
        dot = "" if not self.path or self.path.startswith("[") else "."
        path = safe_text(f"{step}{dot}{self.path}", limit=_PATH_BYTES)
        return ValueRefused(self.reason, path=path, found=self.found, expected=self.expected)


def plain_value(
    value: Any, *, limit: int = MAX_VALUE_BYTES, nan: Literal["refuse", "null"] = "refuse"
) -> Any:
    """Return `value` as JSON would bring it back, or refuse it.

    Tuples become lists, scalars of numpy become numbers, and members of enumerations based on a number or a
    text become that. The result shares nothing that can change with `value`.

    Args:
        value: Anything.
        limit: Bytes that the value may have as msgpack.
        nan: What becomes of a float that is not a number; the infinities are refused in any case.

    Raises:
        ValueRefused: It cannot be sent or stored.
    """
    return _Walk(limit, nan).plain(value, 0)


def checked_name(name: Any, *, limit: int = MAX_NAME_BYTES) -> str:
    """Return a name or key if it can be one: a text, not empty, of UTF-8, without the character 0.

    Raises:
        ValueRefused: It cannot.
    """
    if not isinstance(name, str):
        raise ValueRefused(f"is {_kind(name)}, but a name is a text", found=brief(name), expected="a text")
    text = str.__str__(name)
    if not text:
        raise ValueRefused("is empty", expected="a text of at least one character")
    size = _text_bytes(text, limit)
    if size > limit:
        raise _too_large(limit)
    return text


def safe_text(text: Any, *, limit: int = MAX_LOG_BYTES) -> str:
    """Return a text for people as one that can be sent and stored; never fails.

    Lone surrogates and the character 0 are replaced by U+FFFD. A text of more than `limit` bytes keeps its
    beginning and its end, with a mark between them that says how much was cut.

    Args:
        text: The text; anything else is shown as `str` shows it.
        limit: Bytes of UTF-8 that the result may have; at least 100.
    """
    if not isinstance(text, str):
        try:
            text = str(text)
        except Exception as error:
            text = f"<{type(text).__name__}, whose text failed with {type(error).__name__}>"
    text = str.__str__(text)
    if len(text) <= limit:
        whole = _utf8(text)
        if len(whole) <= limit:
            return whole.decode()
        total = len(whole)
    else:
        total = len(text)  # in characters, to say about how much; not worth encoding all of it
    # A character has four bytes at most, so that slices of `limit` characters are enough at both ends.
    mark = f"\n… [{total - limit} or more bytes were cut here] …\n".encode()
    tail_room = (limit - len(mark)) // 3
    head_room = limit - len(mark) - tail_room
    head = _utf8(text[:head_room])[:head_room].decode(errors="ignore")
    tail = _utf8(text[-tail_room:])[-tail_room:].decode(errors="ignore")
    return head + mark.decode() + tail


def brief(value: Any) -> str:
    """Show a value in a few words, whatever it is; never fails."""
    if isinstance(value, str | bytes):
        value = value[:40]
    elif isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 100:
        return f"an integer of {value.bit_length()} bits"
    elif isinstance(value, dict | list | tuple | set | frozenset):
        return _kind(value)
    try:
        return safe_text(ascii(value)[:60], limit=100)
    except Exception:
        return _kind(value)


class _TooLarge(ValueRefused):
    """Refused as a whole, whichever part exceeded the limit."""

    def below(self, step: str) -> ValueRefused:
        return self


class _Walk:
    """One walk through a value; counts its bytes, and stops as soon as they are too many."""

    def __init__(self, limit: int, nan: Literal["refuse", "null"]) -> None:
        self._limit = limit
        self._left = limit
        self._nan = nan

    def plain(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            return self._text(value)
        if kind is int:
            return self._integer(value)
        if kind is float:
            return self._float(value)
        if value is None or kind is bool:
            self._spend(1)
            return value
        if isinstance(value, dict):
            return self._map(value, depth)
        if isinstance(value, list | tuple):
            return self._list(value, depth)
        return self._other(value)

    def _other(self, value: Any) -> Any:
        """Subclasses of what is plain, and numpy's scalars."""
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, int):
            return self._integer(int(value))
        if isinstance(value, float):
            return self._float(float(value))
        item = getattr(value, "item", None)
        if callable(item) and not isinstance(value, type):
            try:
                inner = item()
            except Exception:  # an array of several elements, or something else altogether
                inner = value
            if inner is None or type(inner) in (bool, int, float, str):
                return self.plain(inner, 0)
        raise ValueRefused(
            f"is {_kind(value)}, which JSON cannot hold{_INSTEAD.get(type(value).__name__, '')}",
            found=brief(value),
            expected="numbers, texts, true, false, null, lists and maps of these",
        )

    def _text(self, text: str) -> str:
        self._spend(_text_bytes(text, self._left) + _HEADER_BYTES)
        return text

    def _integer(self, value: int) -> int:
        if not MIN_INTEGER <= value <= MAX_INTEGER:
            raise ValueRefused(
                f"is an integer of {value.bit_length()} bits, but it has to lie between -2**63 and 2**64 - 1",
                found=f"an integer of {value.bit_length()} bits",
                expected="an integer between -2**63 and 2**64 - 1, a float, or a text",
            )
        self._spend(_NUMBER_BYTES)
        return value

    def _float(self, value: float) -> float | None:
        self._spend(_NUMBER_BYTES)
        if math.isfinite(value):
            return value
        if self._nan == "null" and math.isnan(value):
            return None
        raise ValueRefused(
            f"is {value}, which JSON cannot hold", found=str(value), expected="a finite number"
        )

    def _map(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        self._enter(depth)
        plain: dict[str, Any] = {}
        for key, each in list(value.items()):
            if not isinstance(key, str):
                raise ValueRefused(
                    f"has the key {brief(key)}, which is {_kind(key)}; the keys of a map are texts",
                    found=brief(key),
                    expected="keys that are texts, such as str(key)",
                )
            name = str.__str__(key)
            try:
                self._text(name)
            except ValueRefused as refused:
                raise refused.below("(a key)") from None
            try:
                plain[name] = self.plain(each, depth + 1)
            except ValueRefused as refused:
                raise refused.below(name) from None
        return plain

    def _list(self, value: list[Any] | tuple[Any, ...], depth: int) -> list[Any]:
        self._enter(depth)
        plain: list[Any] = []
        for each in list(value):
            try:
                plain.append(self.plain(each, depth + 1))
            except ValueRefused as refused:
                raise refused.below(f"[{len(plain)}]") from None
        return plain

    def _enter(self, depth: int) -> None:
        if depth >= MAX_DEPTH:
            raise ValueRefused(
                f"is nested more than {MAX_DEPTH} deep",
                found=f"more than {MAX_DEPTH} lists and maps inside each other",
                expected=f"at most {MAX_DEPTH}",
            )
        self._spend(_HEADER_BYTES)

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise _too_large(self._limit)


_INSTEAD = {
    "bytes": "; write them as text, such as `.hex()`",
    "ndarray": "; `.tolist()` makes a list of it",
    "set": "; `sorted(...)` makes a list of it",
}


def _too_large(limit: int) -> ValueRefused:
    return _TooLarge(
        f"has more than {limit} bytes", found=f"more than {limit} bytes", expected=f"at most {limit} bytes"
    )


def _text_bytes(text: str, limit: int) -> int:
    """Return how many bytes a text has as UTF-8; one that is too long is not looked at."""
    if len(text) > limit:
        return len(text)
    if "\0" in text:
        raise ValueRefused(
            f"holds the character 0 at place {text.index(chr(0))}, which cannot be stored",
            found=brief(text),
            expected="a text without it",
        )
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise ValueRefused(
            f"holds half of a surrogate pair at place {error.start}, which is no text",
            found=brief(text),
            expected="a text that can be written as UTF-8",
        ) from None


def _utf8(text: str) -> bytes:
    text = text.replace("\0", _REPLACEMENT)
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Halves of one pair that stand together are one character, as in JSON; the others are replaced.
        joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return joined.encode()


_KINDS = {
    "NoneType": "nothing",
    "bool": "true or false",
    "int": "an integer",
    "float": "a float",
    "str": "a text",
    "bytes": "bytes",
    "list": "a list",
    "tuple": "a list",
    "dict": "a map",
}


def _kind(value: Any) -> str:
    name = type(value).__name__
    return _KINDS.get(name) or f"{'an' if name[:1].lower() in set('aeiou') else 'a'} {name}"
