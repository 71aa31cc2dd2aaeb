"""The controller: knows the lab, tells every node its part, and survives what it is made of.

    registry    which nodes and links exist, who is there, what each was told and has confirmed     pure
    routing     next hops, explicit routes, multicast trees                                         pure
    groups      groups, members, trees, and what they mean for each node                            pure
    reconcile   wanted against confirmed → the messages that close the gap                          pure
    readiness   what each node still waits for; the barrier                                         pure
    runs        roles of a scenario: start, barriers, values, failure, loss                         pure
    service     sockets, Postgres and time; calls the others

The pure part decides, the service carries out. Nothing is resent that a node has confirmed.
"""
