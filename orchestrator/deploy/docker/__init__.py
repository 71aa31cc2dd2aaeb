"""The docker backend: a compose project of Postgres, controller and one container per node."""

from orchestrator.deploy.docker.host import DockerHost

__all__ = ["DockerHost"]
