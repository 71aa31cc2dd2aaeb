"""The native backend: namespaces carried by one host process, an embedded Postgres, a controller process."""

from orchestrator.deploy.native.host import NativeHost

__all__ = ["NativeHost"]
