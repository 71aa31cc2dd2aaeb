"""Read one service of a Compose file: the keys that a topology's services have, too."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.importers.draft import Draft
from orchestrator.importers.healthcheck import KEYS as CHECK_KEYS
from orchestrator.importers.healthcheck import ready_of
from orchestrator.importers.units import number_of
from orchestrator.importers.yamlfile import entries, text_of, wrong
from orchestrator.source import Problems, Value

__all__ = ["Paths", "Service", "read_service"]

# Keys that mean nothing without others, or that say nothing about how a service runs.
_SILENT = ("expose", "healthcheck", "depends_on", "network_mode", "deploy", "profiles", "volumes", "build")
_LISTS = ("tmpfs", "cap_add", "devices")
_TEXTS = ("image", "user", "working_dir", "mem_limit", "gpus", "restart")
_FORMS = {
    "image": r"\S+",
    "user": r"[A-Za-z0-9_.:-]+",
    "working_dir": r"/.*",
    "mem_limit": r"\d+(\.\d+)?\s*[kmgtKMGT]?[iI]?[bB]?",
    "gpus": r"all|[1-9][0-9]?",
    "restart": r"no|always|unless-stopped|on-failure(:[1-9][0-9]{0,3})?",
    "tmpfs": r"/.*",
    "cap_add": r"[A-Z_]+",
    "devices": r"/.*",
}
_WHY = {
    "ports": "`ports`: nothing is published to this machine",
    "networks": "`networks`: each node can reach every other",
    "container_name": "`container_name`",
    "hostname": "`hostname`: a node is called after its service",
}
_NAMED_VOLUME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the Compose file is, and where the topology file will be."""

    old: Path
    new: Path

    def moved(self, path: str) -> str:
        """Return a path of the Compose file as it is relative to the topology file."""
        if path.startswith(("/", "~")):
            return path
        if self.old == self.new:
            return path
        moved = os.path.relpath(self.old / path, self.new)
        return moved if moved.startswith(".") else f"./{moved}"


@dataclass(slots=True)
class Service:
    """What was read.

    Attributes:
        key: Its name in the Compose file.
        keys: Its keys as a topology file has them.
        after: `depends_on` as it is written.
        network: `network_mode`.
    """

    key: str
    keys: dict[str, Any]
    after: Value | None
    network: str


def read_service(key: str, value: Value, paths: Paths, draft: Draft, problems: Problems) -> Service | None:
    """Return a service, or None after noting why it is left out."""
    if value.mapping is None:
        wrong(value, f"service {key[:40]}", "a mapping", problems)
        return None
    if value.get("profiles") is not None:
        draft.lose("services of a profile", key)
        return None
    reader = _Reader(key, value, paths, draft, problems)
    reader.read()
    if not reader.keys.keys() & {"image", "build", "command", "entrypoint"}:
        draft.lose("services without `image`, `build` and `command`", key)
        return None
    network = text_of(value.get("network_mode"))
    if network and not network.startswith("service:"):
        draft.lose(f"`network_mode: {network[:40]}`", key)
    return Service(key, reader.keys, value.get("depends_on"), network)


class _Reader:
    """Reads the keys of one service into `keys`."""

    def __init__(self, name: str, value: Value, paths: Paths, draft: Draft, problems: Problems) -> None:
        self.keys: dict[str, Any] = {}
        self._name = name
        self._value = value
        self._paths = paths
        self._draft = draft
        self._problems = problems

    def read(self) -> None:
        for key, below in entries(self._value, self._name, self._problems):
            if below.data is None or key.startswith("x-"):
                continue
            if key in _TEXTS:
                self._text(key, "no" if key == "restart" and below.data is False else text_of(below))
            elif key in ("command", "entrypoint"):
                self._words(key, below)
            elif key in _LISTS:
                self._list(key, below)
            elif key == "environment":
                self._environment(below)
            elif key == "env_file":
                self._env_file(below)
            elif key == "cpus":
                self._cpus(below)
            elif key not in _SILENT:
                self._lose(_WHY.get(key, f"`{key}` of services"))
        self._build(self._value.get("build"))
        self._volumes(self._value.get("volumes"))
        self._deploy(self._value.get("deploy"))
        self._healthcheck(self._value.get("healthcheck"))

    def _lose(self, what: str) -> None:
        self._draft.lose(what, self._name)

    def _text(self, key: str, text: str) -> None:
        if re.fullmatch(_FORMS[key], text):
            self.keys[key] = text
        else:
            self._lose(f"`{key}` of services (`{text[:30]}`)")

    def _words(self, key: str, value: Value) -> None:
        if value.sequence is not None:
            self.keys[key] = [_written(item) for item in value.sequence]
        elif value.mapping is None:
            self.keys[key] = _written(value)
        else:
            wrong(value, key, "text or a list", self._problems)

    def _list(self, key: str, value: Value) -> None:
        texts = [_written(item) for item in ([value] if value.sequence is None else value.sequence)]
        kept = [text for text in texts if re.fullmatch(_FORMS[key], text)]
        for text in texts:
            if text not in kept:
                self._lose(f"`{key}` of services (`{text[:30]}`)")
        if kept:
            self.keys[key] = [*self.keys.get(key, []), *kept]

    def _environment(self, value: Value) -> None:
        pairs: list[tuple[str, str | None]] = []
        if value.mapping is not None:
            pairs = [(key, None if v.data is None else _written(v)) for key, v in value.mapping.items()]
        for item in value.sequence or []:
            key, equals, rest = _written(item).partition("=")
            pairs.append((key, rest if equals else None))
        kept = {}
        for key, text in pairs:
            if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", key) and "\0" not in (text or ""):
                kept[key] = text
            else:
                self._lose(f"the variable `{key[:30]}` of services")
        if all(text is not None for text in kept.values()):
            self.keys["environment"] = kept
        else:
            self.keys["environment"] = [k if text is None else f"{k}={text}" for k, text in kept.items()]

    def _env_file(self, value: Value) -> None:
        files = []
        for item in [value] if value.sequence is None else value.sequence:
            path = text_of(item if item.mapping is None else item.get("path"))
            if path.isprintable() and path:
                files.append(self._paths.moved(path))
        if files:
            self.keys["env_file"] = files

    def _cpus(self, value: Value) -> None:
        number = number_of(text_of(value))
        if number is not None and 0.01 <= number <= 4096:
            self.keys["cpus"] = float(number)
        elif number != 0:
            self._lose(f"`cpus` of services (`{text_of(value)[:30]}`)")

    def _build(self, value: Value | None) -> None:
        if value is None or value.data is None:
            return
        context = text_of(value if value.mapping is None else value.get("context")) or "."
        if "://" in context or context.startswith("git@"):
            self._lose("`build` from another host")
            return
        build: dict[str, Any] = {"context": self._paths.moved(context)}
        for key, below in entries(value if value.mapping is not None else None, "build", self._problems):
            if key in ("dockerfile", "target") and text_of(below):
                build[key] = text_of(below)
            elif key == "args":
                build["args"] = _arguments(below)
            elif key != "context":
                self._lose(f"`build.{key}` of services")
        self.keys["build"] = build if len(build) > 1 else build["context"]

    def _volumes(self, value: Value | None) -> None:
        if value is not None and value.data is not None and value.sequence is None:
            wrong(value, "volumes", "a list", self._problems)
            return
        found: list[str] = []
        for item in (value.sequence or []) if value is not None else []:
            volume = self._volume(item) if item.mapping is None else self._long_volume(item)
            if volume:
                found.append(volume)
        if found:
            self.keys["volumes"] = found

    def _volume(self, item: Value) -> str:
        parts = text_of(item).split(":")
        if len(parts) == 1:
            source, target, mode = "", parts[0], ""
        else:
            source, target, mode = parts[0], parts[1], ":".join(parts[2:])
        words = [each for each in mode.split(",") if each]
        for each in words:
            if each not in ("ro", "rw"):
                self._lose(f"the mode `{each[:20]}` of volumes")
        return self._mounted(source, target, "ro" in words)

    def _long_volume(self, item: Value) -> str:
        kind, target = text_of(item.get("type")) or "volume", text_of(item.get("target"))
        for key in item.mapping or {}:
            if key not in ("type", "source", "target", "read_only"):
                self._lose(f"`{key}` of volumes")
        if kind == "tmpfs":
            self._list("tmpfs", Value(target, item.place, target))
            return ""
        if kind not in ("bind", "volume"):
            self._lose(f"volumes of the type `{kind[:20]}`")
            return ""
        source = text_of(item.get("source"))
        if kind == "bind" and not source.startswith(("/", ".", "~")):
            source = f"./{source}"
        return self._mounted(source, target, text_of(item.get("read_only")) == "true")

    def _mounted(self, source: str, target: str, read_only: bool) -> str:
        is_path = source.startswith(("/", ".", "~"))
        known = is_path or re.fullmatch(_NAMED_VOLUME, source or "a")
        text = f"{source}:{target}" if source else target
        if not known or not re.fullmatch(r"/[^:\s]*", target) or re.search(r"[:\s]", source):
            self._lose(f"the volume `{text[:40]}`")
            return ""
        moved = self._paths.moved(source) if is_path else source
        return (f"{moved}:" if source else "") + target + (":ro" if read_only and source else "")

    def _deploy(self, value: Value | None) -> None:
        for key, below in entries(value, "deploy", self._problems):
            if key != "resources":
                if not (key == "replicas" and below.data == 1):
                    self._lose(f"`deploy.{key}`" + (": each service runs once" if key == "replicas" else ""))
                continue
            for level, limits in entries(below, "resources", self._problems):
                for each, amount in entries(limits, level, self._problems):
                    if level == "limits" and each == "cpus":
                        self._cpus(amount)
                    elif level == "limits" and each == "memory":
                        self._text("mem_limit", text_of(amount))
                    elif each == "devices":
                        self._gpus(amount)
                    else:
                        self._lose(f"`deploy.resources.{level}.{each}`")

    def _gpus(self, devices: Value) -> None:
        for device in devices.sequence or []:
            offered = device.get("capabilities")
            words = [text_of(item) for item in (offered.sequence or [])] if offered is not None else []
            if "gpu" in words:
                self._text("gpus", text_of(device.get("count")) or "all")
            else:
                self._lose("`deploy.resources.reservations.devices` that are no graphics processors")

    def _healthcheck(self, value: Value | None) -> None:
        if value is None or value.data is None:
            return
        ready = ready_of(value)
        for key, _ in entries(value, "healthcheck", self._problems):
            if key not in CHECK_KEYS:
                self._lose(f"`healthcheck.{key}`")
        if ready is not None:
            self.keys["ready"] = ready
            self._draft.remark(
                "`healthcheck` became `ready`, which is checked at the start alone", self._name
            )
        elif text_of(value.get("disable")) != "true":
            self._lose("`healthcheck` without a command")


def _arguments(value: Value) -> dict[str, str]:
    if value.mapping is not None:
        return {key: _written(below) for key, below in value.mapping.items()}
    pairs = (_written(item).partition("=") for item in value.sequence or [])
    return {key: rest for key, _, rest in pairs}


def _written(value: Value) -> str:
    """Return a scalar as it is written: `1.10` and `yes` stay what they are."""
    if value.data is None or isinstance(value.data, (list, dict)):
        return ""
    return value.data if isinstance(value.data, str) else value.text or str(value.data)
