"""The controller: keeps the state of a lab, configures its nodes and restores both after a restart.

    registry    nodes and links: who is connected, what each node was sent and has confirmed        pure
    routing     next hops, explicit routes, multicast trees                                         pure
    groups      groups, members, trees, and the routes that follow for each node                    pure
    reconcile   compare wanted with confirmed state; build the messages for the difference          pure
    readiness   what each node still waits for; the start barrier                                   pure
    runs        roles of a scenario: start, barriers, values, failure, loss                         pure
    service     sockets, Postgres and time; calls the others

The pure modules decide, the service performs I/O. Confirmed state is never sent again.
"""
