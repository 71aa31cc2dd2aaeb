"""`AsyncNode`: a node of a lab that is up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.deploy.state import NodeNote
from orchestrator.lab.changing import Applied
from orchestrator.lab.commands import Completed
from orchestrator.lab.node_faults import BACK_S, NodesChanged

if TYPE_CHECKING:
    from orchestrator.lab.handle import AsyncLab
    from orchestrator.lab.service import AsyncService


@dataclass(frozen=True)
class AsyncNode:
    """A node of a lab that is up."""

    lab: AsyncLab
    note: NodeNote

    @property
    def id(self) -> int:
        """Its number."""
        return self.note.id

    @property
    def name(self) -> str:
        """Its name, under which other nodes reach it."""
        return self.note.name

    @property
    def address(self) -> str:
        """Its address on the emulated network."""
        return self.note.address

    @property
    def address6(self) -> str | None:
        """Its IPv6 address there; None without one."""
        return self.note.address6

    @property
    def external(self) -> bool:
        """Whether it is an external node, run by a program of the user's own."""
        return self.note.external

    @property
    def config(self) -> Path:
        """Its TOML file; `nextmini_py.Dataplane` takes it, if the node is external."""
        return Path(self.note.config)

    async def run(
        self,
        argv: Sequence[str] | str,
        *,
        stdin: bytes | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # as in subprocess.run
        user: str | None = None,
    ) -> Completed:
        """Run a command in the node and collect what it prints.

        Args:
            argv: The command; a string is split into words as a shell would, without its other powers.
            stdin: What it reads; nothing unless given.
            timeout: End it after so many seconds, with exit code 124.
            user: Whose rights it has, by name or number; root's unless given. The nodes of a rootless lab
                have no other.
        """
        return await self.lab.run_in(self.id, argv, stdin=stdin, timeout_s=timeout, user=user)

    def service(self, name: str) -> AsyncService:
        """A service in this node.

        Raises:
            UsageError: There is none of that name.
        """
        return self.lab.service(f"{self.id}/{name}")

    async def copy_to(self, source: str | Path, path: str) -> None:
        """Copy a file or folder of this machine into the node, as `nm cp` does.

        Raises:
            CopyFailed: It cannot be read or written.
        """
        from orchestrator.lab.copying import copy_words

        await copy_words(self.lab, Path(source), f"{self.id}:{path}")

    async def copy_from(self, path: str, target: str | Path) -> None:
        """Copy a file or folder of the node to this machine, as `nm cp` does.

        Raises:
            CopyFailed: It cannot be read or written.
        """
        from orchestrator.lab.copying import copy_words

        await copy_words(self.lab, f"{self.id}:{path}", Path(target))

    async def kill(self) -> NodesChanged:
        """End it and its programs at once; it keeps id, addresses, links, routes and groups for `start`.

        Its links are down at its neighbours and routes avoid it when this returns. A node that is stopped
        already stays so.
        """
        return await self.lab.act_on_nodes([self.id], "kill")

    async def stop(self) -> NodesChanged:
        """End it as `kill` does, but ask its programs first, and give them a few seconds to end."""
        return await self.lab.act_on_nodes([self.id], "stop")

    async def start(self, *, timeout: float = BACK_S) -> NodesChanged:  # noqa: ASYNC109  # passed on
        """Start it again, and return when it is ready, with its links up and routes over it.

        A node that runs already stays so; one whose start failed half-way is started again.

        Raises:
            PeerError: It is paused (`node.paused`).
            NodeNotBack: It is not ready in time; carries the last lines of its log.
        """
        return await self.lab.act_on_nodes([self.id], "start", timeout_s=timeout)

    async def pause(self) -> NodesChanged:
        """Stop its packet processing and its programs where they are; links and routes stay."""
        return await self.lab.act_on_nodes([self.id], "pause")

    async def unpause(self, *, timeout: float = BACK_S) -> NodesChanged:  # noqa: ASYNC109  # passed on
        """Let a paused node go on."""
        return await self.lab.act_on_nodes([self.id], "unpause", timeout_s=timeout)

    async def remove(self, *, force: bool = False) -> Applied:
        """Take it out of the lab, with its links; see `AsyncLab.remove_nodes`."""
        return await self.lab.remove_nodes([self.id], force=force)
