"""Start a rendered lab on this machine, and remove it.

A backend is a `Host`: `native` (network namespaces held by host processes, an embedded Postgres) or `docker`
(a compose project). Both start from the same run directory and have the same interface. This package does not
know topologies or scenarios and renders nothing: all files are already on disk.

    home         the directory of each lab
    locks        one `nm` at a time per lab
    state        what was started, by whom, and which step was reached
    processes    labels, identities, signals
    supervision  start, stop and query the supervisor of a native lab
    ports        free ports and subnets
    namespaces   commands inside a node of a native lab
    host         the protocol that both backends implement
    native/      the native backend
    docker/      the docker backend
"""
