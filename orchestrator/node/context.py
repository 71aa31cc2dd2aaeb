"""`ctx`: the object that a role gets to access its node, parameters, results and the controller.

The names are a promise to the authors of scenarios. Methods that wait block the role's own thread; their
variants in `_async` are for roles that are `async def`. Every wait ends when the role is stopped or its time
is up.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, Protocol
from weakref import WeakSet

from orchestrator.errors import NmError, nearest_hint
from orchestrator.node import forked
from orchestrator.node.links import Groups, RoleLink, read_groups
from orchestrator.node.output import LimitedLog
from orchestrator.node.stopped import RoleStopped as RoleStopped
from orchestrator.protocol.messages import TimelineChange
from orchestrator.traffic import ROLE
from orchestrator.values import ValueRefused, checked_name, plain_value

if TYPE_CHECKING:
    from orchestrator.node.dataplane import Dataplane

RESERVED = ("node", "role")
"""What every row says and no role may: who reported it."""


class RoleError(NmError):
    """A role used `ctx` incorrectly, or a wait timed out."""

    id = "scenario.role"


class Wire(Protocol):
    """The agent's interface for contexts; every call is thread-safe and returns at once."""

    def report(self, node: int, row: dict[str, Any]) -> None:
        """Send a row."""

    def log(self, node: int, level: str, text: str) -> None:
        """Send a line of the role's log."""

    def progress(self, node: int, done: float, total: float) -> None:
        """Say how far the role is."""

    def publish(self, node: int, key: str, value: Any) -> None:
        """Make a value known."""

    def barrier(self, node: int, name: str) -> Future[None]:
        """Enter a barrier; the future is done when all are there."""

    def lookup(self, node: int, key: str) -> Future[Any]:
        """Ask for a value; the future is done when it is published."""

    def change_links(self, node: int, change: TimelineChange) -> Future[None]:
        """Ask for a change of links; the future is done when the nodes have made it."""


class Params(SimpleNamespace):
    """Parameters by attribute; a name that the scenario does not declare is an error that says so."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        hint = nearest_hint(name, vars(self), what="parameters are")
        raise AttributeError(f"the scenario has no parameter `{name}`" + (f"; {hint}" if hint else ""))


class RoleLog:
    """The role's log; calling it is the same as `info`."""

    def __init__(self, write: Callable[[str, str], None]) -> None:
        self._write = write

    def __call__(self, text: object, *values: object) -> None:
        """Log a line."""
        self._put("info", text, values)

    def debug(self, text: object, *values: object) -> None:
        """Log why something happened."""
        self._put("debug", text, values)

    def info(self, text: object, *values: object) -> None:
        """Log what happened."""
        self._put("info", text, values)

    def warning(self, text: object, *values: object) -> None:
        """Log what was lost or retried."""
        self._put("warning", text, values)

    def error(self, text: object, *values: object) -> None:
        """Log what a person has to fix."""
        self._put("error", text, values)

    def put(self, level: str, text: str) -> None:
        """Log a line at a level that was read elsewhere."""
        self._write(level, text)

    def _put(self, level: str, text: object, values: tuple[object, ...]) -> None:
        self._write(level, str(text) % values if values else str(text))


class Context:
    """The context of a role.

    Attributes:
        dataplane: The node's `nextmini_py.Dataplane`, its topology ready.
        node: The node's id.
        name: The node's name.
        role: The role's name.
        round: The round the role is in, from 1; rows carry it once the role has set it or used `rounds`.
        params: The run's parameters by attribute.
        seed: The run's seed.
        log: The role's log.
    """

    def __init__(
        self,
        *,
        dataplane: Dataplane,
        node: int,
        role: str,
        params: Mapping[str, Any],
        seed: int,
        roles: Mapping[str, tuple[int, ...]],
        names: Mapping[int, str],
        addresses: Mapping[int, str],
        wire: Wire,
        has_room: Callable[[], bool] = lambda: True,
        addresses6: Mapping[int, str] | None = None,
    ) -> None:
        self.dataplane = dataplane
        self.node = node
        self.name = names.get(node, f"node-{node}")
        self.role = role
        self.params = Params(**params)
        self.seed = seed
        self._lines = LimitedLog(lambda level, text: self._wire.log(node, level, text), has_room)
        self.log = RoleLog(self._lines.put)
        self._round: int | None = None
        self._roles = roles
        self._names = names
        self._addresses = addresses
        self._addresses6 = addresses6 or {}
        self._open_wire = wire
        self._refusal: Callable[[], BaseException] | None = None
        self._lock = threading.Lock()
        self._pending: dict[Future[Any], str] = {}
        self._interrupted: str | None = None
        _contexts.add(self)

    @property
    def round(self) -> int:
        """The round the role is in, counting from 1."""
        return self._round or 1

    @round.setter
    def round(self, value: int) -> None:
        self._round = value

    def rounds(self, count: int) -> Iterator[int]:
        """Go through rounds 1 to `count`, with `round` set to each in turn."""
        for number in range(1, count + 1):
            self._round = number
            yield number

    def nodes(self, role: str | None = None) -> list[int]:
        """The ids of all nodes, or of those with a role, sorted.

        Raises:
            RoleError: The scenario has no such role.
        """
        if role is None:
            return sorted(self._names)
        if role not in self._roles:
            hint = nearest_hint(role, self._roles, what="roles are")
            raise RoleError(f"the scenario has no role `{role}`", found=role, hint=hint)
        return sorted(self._roles[role])

    def address(self, node: int) -> str:
        """A node's address on the emulated network.

        Raises:
            RoleError: The lab has no such node.
        """
        if node not in self._addresses:
            raise RoleError(f"the lab has no node {node}", found=str(node))
        return self._addresses[node]

    def address6(self, node: int) -> str:
        """A node's IPv6 address on the emulated network.

        Raises:
            RoleError: The lab has no such node, or no IPv6.
        """
        if self.address(node) and node not in self._addresses6:
            raise RoleError("the lab has no IPv6", hint="write `ipv6: true`, or leave `ipv6` out")
        return self._addresses6[node]

    def node_name(self, node: int) -> str:
        """A node's name."""
        return self._names.get(node, f"node-{node}")

    def report(self, **row: Any) -> None:
        """Add a row to the results; `node` and `role` are filled in, and `round` if there are rounds.

        A float that is not a number becomes null: there is no measurement. Infinities are refused.

        Raises:
            RoleError: A value is not plain JSON, the row is too large, or it names its node or role itself.
        """
        if reserved := [key for key in RESERVED if key in row]:
            raise RoleError(
                f"a row may not set `{reserved[0]}`: the reporting role is added to every row",
                id="scenario.reserved",
                found=reserved[0],
                hint=f"another name, such as `{reserved[0]}_id`",
            )
        known = {"node": self.node, "role": self.role}
        if self._round is not None:
            known["round"] = self._round
        self._wire.report(self.node, _plain({**known, **row}, "a row", nan="null"))

    def report_traffic(self, row: Mapping[str, Any]) -> None:
        """Add a row about generated traffic, whatever role the node has beside it."""
        known = {"node": self.node, "role": ROLE}
        self._wire.report(self.node, _plain({**known, **row}, "a row", nan="null"))

    def progress(self, done: float, total: float) -> None:
        """Say how far the role is; shown while the scenario runs, and not kept."""
        shown = _plain([float(done), float(total)], "progress")
        self._wire.progress(self.node, *shown)

    def publish(self, key: str, value: Any) -> None:
        """Make a plain value known to every role of the run; a second one replaces the first.

        Raises:
            RoleError: The value is not plain JSON, or too large, or the key is none.
        """
        key = _name(key, "a key")
        self._wire.publish(self.node, key, _plain(value, f"the value for `{key[:60]}`"))

    def barrier(self, name: str, timeout: float | None = None) -> None:
        """Wait until every role of the run has come to the barrier of that name.

        Raises:
            RoleError: They did not come within `timeout` seconds.
        """
        self._wait(self.ask_barrier(name), f"barrier `{name}`", timeout)

    async def barrier_async(self, name: str, timeout: float | None = None) -> None:  # noqa: ASYNC109  # promised
        """Like `barrier`, for roles that are `async def`."""
        await self._wait_async(self.ask_barrier(name), f"barrier `{name}`", timeout)

    def lookup(self, key: str, timeout: float | None = None) -> Any:
        """Return the value published under `key`, waiting for it if need be.

        Raises:
            RoleError: It was not published within `timeout` seconds.
        """
        return self._wait(self.ask_value(key), f"the value of `{key}`", timeout)

    async def lookup_async(self, key: str, timeout: float | None = None) -> Any:  # noqa: ASYNC109  # promised
        """Like `lookup`, for roles that are `async def`."""
        return await self._wait_async(self.ask_value(key), f"the value of `{key}`", timeout)

    def link(self, a: int | str, b: int | str) -> RoleLink:
        """A link by its ends, numbers or names, to change it; the scenario has to say `faults: true`.

        Raises:
            RoleError: The lab has no such node.
        """
        return RoleLink(self._number(a), self._number(b), self._change_links, self._change_links_async)

    def partition(self, groups: Groups) -> None:
        """Take down all links between groups of nodes until `heal`.

        Args:
            groups: Numbers or names of nodes, such as `[[1, 2], [3, 4]]` or `"1,2|3,4"`.

        Raises:
            RoleError: The scenario does not say `faults: true`, or these are no such groups.
        """
        self._change_links(self._partition(groups))

    async def partition_async(self, groups: Groups) -> None:
        """Like `partition`, for roles that are `async def`."""
        await self._change_links_async(self._partition(groups))

    def heal(self) -> None:
        """End the partition."""
        self._change_links(TimelineChange(0, "heal"))

    async def heal_async(self) -> None:
        """Like `heal`, for roles that are `async def`."""
        await self._change_links_async(TimelineChange(0, "heal"))

    def waiting_for(self) -> str | None:
        """What the role waits for at this moment, in words, if it waits through `ctx`."""
        with self._lock:
            return next(iter(self._pending.values()), None)

    @property
    def interrupted(self) -> str | None:
        """Why the role has to end, None if it does not; for waits without a future."""
        return self._interrupted

    def interrupt(self, reason: str) -> None:
        """End every wait, present and future, with `RoleStopped`; the agent's business, not the role's."""
        with self._lock:
            self._interrupted = reason
            pending = list(self._pending)
        for future in pending:
            _fail(future, RoleStopped(reason))

    def end(self) -> None:
        """Log what was left out, and refuse later calls: the role has ended."""
        self._lines.finish()
        self._refusal = lambda: RoleStopped("the role has ended")
        self.interrupt("the role has ended")

    @property
    def _wire(self) -> Wire:
        if self._refusal is not None:
            raise self._refusal()
        return self._open_wire

    def ask_barrier(self, name: str) -> Future[None]:
        """Enter a barrier without waiting; the agent's business, as are the next three."""
        return self._wire.barrier(self.node, _name(name, "a barrier's name"))

    def ask_value(self, key: str) -> Future[Any]:
        """Ask for a published value."""
        return self._wire.lookup(self.node, _name(key, "a key"))

    def _partition(self, groups: Groups) -> TimelineChange:
        try:
            return TimelineChange(0, "partition", groups=read_groups(groups, self._number))
        except TypeError:
            hint = 'such as `[[1, 2], [3, 4]]` or `"1,2|3,4"`'
            text = "a partition needs groups of nodes"
            raise RoleError(text, found=repr(groups)[:60], hint=hint) from None

    def _number(self, node: int | str) -> int:
        for number, name in self._names.items():
            if node in (number, name, f"node-{number}", str(number)):
                return number
        raise RoleError(f"the lab has no node {node}", found=str(node))

    def _change_links(self, change: TimelineChange) -> None:
        self._wait(self._wire.change_links(self.node, change), f"a change of {change.where}", None)

    async def _change_links_async(self, change: TimelineChange) -> None:
        await self._wait_async(
            self._wire.change_links(self.node, change), f"a change of {change.where}", None
        )

    def _wait(self, future: Future[Any], what: str, timeout: float | None) -> Any:
        self.expect(future, what)
        try:
            return future.result(timeout)
        except FutureTimeout:
            raise _too_long(what, timeout) from None
        finally:
            self.forget(future)

    async def _wait_async(self, future: Future[Any], what: str, limit: float | None) -> Any:
        self.expect(future, what)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), limit)
        except TimeoutError:
            raise _too_long(what, limit) from None
        finally:
            self.forget(future)

    def expect(self, future: Future[Any], what: str) -> None:
        """Note that the role waits, and what for, until `forget`."""
        with self._lock:
            self._pending[future] = what
            interrupted = self._interrupted
        if interrupted is not None:
            _fail(future, RoleStopped(interrupted))

    def forget(self, future: Future[Any]) -> None:
        """Note that it does not wait any more."""
        with self._lock:
            self._pending.pop(future, None)


_contexts: WeakSet[Context] = WeakSet()


def _refuse_all() -> None:
    for context in list(_contexts):
        context._refusal = _forked_refusal


def _forked_refusal() -> RoleError:
    return RoleError(
        "a forked process has no `ctx`: what it says would be lost",
        id="scenario.forked",
        hint="hand results to the role, for instance through a pipe, and let the role report them",
    )


forked.in_child(_refuse_all)


def _fail(future: Future[Any], error: BaseException) -> None:
    with suppress(InvalidStateError):  # it may be done by now
        future.set_exception(error)


def _too_long(what: str, timeout: float | None) -> RoleError:
    return RoleError(f"waited {timeout:g} s for {what} without success", id="scenario.wait", expected=what)


def _plain(value: Any, what: str, *, nan: Literal["refuse", "null"] = "refuse") -> Any:
    """Return `value` as JSON would bring it back; numpy's scalars become numbers."""
    try:
        return plain_value(value, nan=nan)
    except ValueRefused as refused:
        large = "send data over the emulated network; rows and published values are for small things"
        raise RoleError(
            f"{what} cannot be kept: {'it ' if not refused.path else ''}{refused}",
            id="scenario.value",
            found=refused.found,
            expected=refused.expected,
            hint=large if "bytes" in refused.found else None,
        ) from None


def _name(name: Any, what: str) -> str:
    try:
        return checked_name(name)
    except ValueRefused as refused:
        raise RoleError(
            f"{what} {refused}", id="scenario.name", found=refused.found, expected=refused.expected
        ) from None
