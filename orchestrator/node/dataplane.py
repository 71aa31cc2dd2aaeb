"""Wrap the native module for the agent; no other module of the orchestrator imports it.

The functions are those that the agent needs, so that tests can replace them with fakes.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nextmini_py import Dataplane as Dataplane
    from nextmini_py._run import RunDataplane as RunDataplane
    from nextmini_py._simulation import Simulation as Simulation


def open_nodes(nodes: Sequence[tuple[str, int | None]]) -> list[Dataplane]:
    """Start nodes with their TUN devices.

    Args:
        nodes: For each its TOML file, and the network namespace to put the device in as an open file; None
            for our own.

    Raises:
        nextmini_py.NextminiError: A file is wrong, the controller does not answer, or TUN is refused; no node
            is left open then.
    """
    from nextmini_py import host

    return host.open_nodes(nodes)


def run_view(dataplane: Dataplane) -> RunDataplane:
    """A handle of a node that notes what is opened through it, and ends that when it is closed."""
    from nextmini_py import host

    return host.run_view(dataplane)


def attach() -> Dataplane:
    """The dataplane of the node in which this process runs.

    Raises:
        nextmini_py.NextminiError: The node is gone, or refuses this process.
    """
    import nextmini_py

    return nextmini_py.attach()


def serve_programs(opened: Dataplane, namespace: int | None) -> None:
    """Let programs in the node attach to it.

    Raises:
        nextmini_py.NextminiError: Another program has taken the name of the socket.
    """
    from nextmini_py import host

    host.serve_programs(opened, namespace)


def controller_token(opened: Dataplane) -> str:
    """What a node proves itself to the controller with."""
    from nextmini_py import host

    return host.controller_token(opened)


def set_paused(opened: Dataplane, paused: bool) -> None:
    """Pause a node's packet processing, or resume it."""
    from nextmini_py import host

    host.set_paused(opened, paused)


def serve_captures(path: str) -> None:
    """Open a socket at which programs of this machine ask for packets of this process's nodes.

    Raises:
        OSError: The path cannot be used.
    """
    from nextmini_py import host

    host.serve_captures(path)


def wait_for_agent_request() -> None:
    """Wait until the controller requests an agent here; the handler of a signal ends it by raising."""
    from nextmini_py import host

    host.wait_for_agent_request()


def create_machine(hostname: str, settings: Sequence[tuple[str, str, bool]]) -> tuple[int, int, list[str]]:
    """Make a network namespace with kernel settings, and a UTS namespace with a host name.

    Returns:
        Both as open files, and the refusals of settings that were not required.

    Raises:
        nextmini_py.NextminiError: The kernel refuses one or the other, or a setting that was required.
    """
    from nextmini_py import host

    return host.create_machine(hostname, settings)


def enter_namespace(namespace: int) -> None:
    """Move the calling thread, and what it starts from now on, into a network namespace."""
    from nextmini_py import host

    host.enter_namespace(namespace)


def enter_names(namespace: int) -> None:
    """Give the calling thread, and what it starts from now on, the host name of a UTS namespace."""
    from nextmini_py import host

    host.enter_names(namespace)


def enter_user_namespace() -> None:
    """Become root in a user namespace of our own; has to be done before any other thread exists."""
    from nextmini_py import host

    host.enter_user_namespace()


def unshare_mounts(hosts_file: Path) -> None:
    """Give this process an `/etc/hosts` of its own."""
    from nextmini_py import host

    host.unshare_mounts(str(hosts_file))


def simulation(
    nodes: Sequence[tuple[int, str, int]],
    *,
    base_addr: str,
    net_mask: str,
    user_base_addr: str,
    seed: int,
    pipe: bool,
    until_us: int,
) -> Simulation:
    """A simulated network without links, in virtual time.

    Args:
        nodes: Number, name and MTU of each.
        base_addr: Node n has this address plus n.
        net_mask: The mask of these addresses.
        user_base_addr: From this address plus n, node n sends user-space flows.
        seed: Drives every draw.
        pipe: Whether relays leave the TTL as it is.
        until_us: The virtual time at which it ends.

    Raises:
        ValueError: An address is none.
    """
    from nextmini_py._simulation import Simulation

    return Simulation(
        list(nodes),
        base_addr=base_addr,
        net_mask=net_mask,
        user_base_addr=user_base_addr,
        seed=seed,
        pipe=pipe,
        until_us=until_us,
    )
