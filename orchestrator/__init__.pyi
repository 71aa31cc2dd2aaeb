from orchestrator.errors import NmError as NmError
from orchestrator.lab import Lab as Lab
from orchestrator.topology import Topology as Topology

__all__ = ["Lab", "NmError", "Topology", "__version__"]

__version__: str
