"""The node agent: the process that carries nodes and runs the roles of scenarios in them.

In a container it carries one node, natively all nodes of a lab. It opens their dataplanes, tells the
controller that it takes roles for them, and runs each role in a thread of its own inside its node's
network.

    options      the command line
    agent        the controller's orders: prepare, run, stop, barriers, published values
    link         the connection to the controller, with back-off and without losing reports
    runs         what one run has in this process
    program      the scenario's own code: unpack, import, forget
    roles        one role: its thread, its end, its children
    context      the `ctx` that a role is handed
    output       what a role prints
    nodes        namespaces, TUN and dataplanes of this process; the table for `nm exec`
    dataplane    the only file that imports the native module
"""
