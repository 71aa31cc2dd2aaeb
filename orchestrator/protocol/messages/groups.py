"""Requests of operators about groups; `Ack.value` answers with the group, or with a list of groups.

A group in an answer is a map: `group_id`, `label`, `group_ip`, `src_node_id`, `members`, `explicit` (whether
its trees were set; they are computed otherwise) and `trees`, each with `tree_id`, `edges` and `weight`.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.protocol.messages.base import Message, Role, sent_by
from orchestrator.protocol.messages.node import Tree
from orchestrator.protocol.schema import U32

__all__ = ["AddGroup", "ChangeMembers", "DeleteGroup", "GetGroups", "SetGroupTrees"]


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class GetGroups(Message):
    """Ask for all groups."""


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class AddGroup(Message):
    """Create a group of this name with this source, or find it; the members are added to those it has."""

    label: str
    src_node_id: U32
    members: tuple[U32, ...] = ()
    cause: str = "operator"


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class DeleteGroup(Message):
    """Delete a group with its members and trees."""

    group_id: U32
    cause: str = "operator"


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class ChangeMembers(Message):
    """Make nodes members of a group, or members no more; all of them or none."""

    group_id: U32
    nodes: tuple[U32, ...]
    joined: bool
    cause: str = "operator"


@sent_by(Role.OPERATOR)
@dataclass(frozen=True, slots=True)
class SetGroupTrees(Message):
    """Give a group its trees in place of those it had.

    Without trees they are computed, and follow members and links from then on. With `compute`, the tree of
    shortest paths to these receivers (none: the members) is set instead, and stays as it is.
    """

    group_id: U32
    trees: tuple[Tree, ...] = ()
    compute: bool = False
    receivers: tuple[U32, ...] = ()
    cause: str = "operator"
