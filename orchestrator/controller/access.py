"""Check for which nodes a connection may send messages.

A connection is authenticated as one node by that node's token. A process may host many nodes, so each further
node is added with its own token, in its `StartUp` or in `AgentHello`. Every message is checked before it is
handled: the node in its header, and the sender in its body where it names one.
"""

from __future__ import annotations

from orchestrator.protocol import Admission, Frame, Message, Refused
from orchestrator.protocol.messages import AgentHello, StartUp

__all__ = ["check"]


def check(admission: Admission, allowed: set[int], frame: Frame) -> None:
    """Check that a message speaks for nodes of its connection only; tokens in it add nodes first.

    Args:
        admission: Knows the tokens.
        allowed: The nodes that the connection has proven so far; those that the message proves are added.
        frame: The message.

    Raises:
        Refused: It speaks for another node, with the id `control.token` where a token was expected and
            `control.node` elsewhere. No node is added then.
    """
    message = frame.message
    if isinstance(message, StartUp):
        _add(admission, allowed, {frame.node: message.token})
    elif isinstance(message, AgentHello):
        _add(admission, allowed, {node: message.tokens.get(node, "") for node in message.nodes})
    named = _named(frame, message)
    for node in () if named <= allowed else sorted(named):
        if node not in allowed:
            raise Refused(
                f"{message.type} is about node {node}, which is not authenticated on this connection",
                id="control.node",
                found=str(node),
                hint="a message is accepted on a connection that has shown the node's own token",
            )


def _add(admission: Admission, allowed: set[int], tokens: dict[int, str]) -> None:
    for node, token in tokens.items():
        if not admission.speaks_for(node, token) and (token or node not in allowed):
            raise Refused(
                f"the token is not that of node {node}",
                id="control.token",
                hint="a token belongs to one node and one start of a lab; read it from the node's file again",
            )
    allowed.update(tokens)


def _named(frame: Frame, message: Message) -> set[int]:
    """Return the nodes in whose name a message speaks; 0 in a header is the connection itself."""
    named = {frame.node}
    own = getattr(message, "node", 0)  # agents name the role's node in the body as well
    if own and isinstance(own, int):
        named.add(own)
    if isinstance(message, AgentHello):
        named.update(message.nodes)
        named.update(role.node for role in message.running)
    named.discard(0)
    return named
