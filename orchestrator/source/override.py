"""Apply a `--set key=value` option to a tree of values.

The key is a path with dots, list elements count from 0: `defaults.link.rate=10 Mbit`, `links.0.loss=1 %`. The
value is read as YAML. What is laid down carries the option as its place, so that a later complaint points at
the command line and not at a line of the file that the user did not write.
"""

from __future__ import annotations

from orchestrator.errors import Place
from orchestrator.source.tree import Problems, Value
from orchestrator.source.yaml import parse_yaml

__all__ = ["apply_override", "parse_option"]


def apply_override(root: Value, option: str, problems: Problems, name: str = "--set") -> None:
    """Change `root` as one `key=value` says, or note why that cannot be done.

    Args:
        root: The tree, changed in place.
        option: What stood behind `--set`.
        problems: Takes what is wrong; unknown keys are reported when the tree is checked.
        name: What the user typed before it.
    """
    place = Place(f"{name} {option}")
    key, equals, text = option.partition("=")
    path = [part.strip() for part in key.split(".")]
    if not equals or not all(path):
        problems.add(
            f"`{option}` is not of the form key=value",
            "set.form",
            place,
            found=option,
            expected="key=value",
            hint="for example `--set defaults.link.rate='10 Mbit'`",
        )
        return
    if not text.strip():
        problems.add("nothing stands behind `=`", "set.form", place, expected="a value")
        return
    value = parse_option(text, place, problems)
    if value is not None:
        _put(root, path, value, problems)


def parse_option(text: str, place: Place, problems: Problems) -> Value | None:
    """Return the value of an option, read as YAML; complaints about it call the option its place.

    Args:
        text: The value; not empty.
        place: The option.
        problems: Takes why the text is not YAML.
    """
    inner = Problems("set")
    value = parse_yaml(text, place.file, inner)
    for problem in inner:
        problems.add(f"the value is not YAML: {problem.message}", "set.value", place, found=text)
    if value is not None:
        _move(value, place)
    return value


def _move(value: Value, place: Place) -> None:
    value.place = place
    value.keys = dict.fromkeys(value.keys, place)
    for below in value.sequence or list((value.mapping or {}).values()):
        _move(below, place)


def _put(here: Value, path: list[str], value: Value, problems: Problems) -> None:
    """Put a value at a path; mappings that are missing on the way are made."""
    for i, part in enumerate(path):
        last, above = i == len(path) - 1, ".".join(path[:i])
        if here.sequence is not None:
            index = _index(here.sequence, part, value.place, above, problems)
            if index is None:
                return
            if last:
                here.sequence[index] = value
            here = here.sequence[index]
            continue
        if here.data is None:
            here.data = {}
        if here.mapping is None:
            problems.add(
                f"`{above}` is {here.describe()} and has no keys", "set.path", value.place, found=above
            )
            return
        if last or part not in here.mapping:
            here.mapping[part] = value if last else Value({}, value.place)
            here.keys[part] = value.place
        here = here.mapping[part]


def _index(items: list[Value], part: str, place: Place, above: str, problems: Problems) -> int | None:
    if part.isdecimal() and int(part) < len(items):
        return int(part)
    problems.add(
        f"`{above}` is a list of {len(items)}, and `{part}` is no position in it",
        "set.index",
        place,
        found=part,
        expected=f"0 to {len(items) - 1}" if items else "an element; the list is empty",
    )
    return None
