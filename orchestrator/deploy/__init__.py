"""Bring a rendered lab to life, and take it away again.

A backend is a `Host`: `native` (namespaces carried by one host process, an embedded Postgres) or `docker` (a
compose project). Both are started from the same run directory and answer the same questions. Nothing here
knows topologies or scenarios, and nothing here renders: what to start is already on disk.

    home         where labs live, what is in a lab's folder
    locks        one `nm` at a time per lab
    state        what was started, by whom, how far it came
    processes    labels, identities, signals
    supervision  the supervisor of a native lab, as `nm` sees it
    ports        free ports and subnets
    namespaces   commands inside a node of a native lab
    host         the protocol both backends follow
    native/      the native backend
    docker/      the docker backend
"""
