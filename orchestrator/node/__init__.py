"""The node agent: the process that runs nodes and executes the roles of scenarios in them.

In a container it hosts one node, in a native lab all of them or a share. It opens their dataplanes, registers
with the controller as their agent, and runs each role in a thread of its own inside its node's network
namespace.

    options      the command line
    agent        the controller's commands: prepare, run, stop, barriers, published values
    link         the connection to the controller, with back-off and resending
    runs         the state of one run in this process
    program      the scenario's own code: unpack, import, remove
    roles        one role: its thread, its end, its children
    isolated     a role in a process of its own, and what the agent does for it
    role_process that process; `channel` is the connection of the two
    context      the `ctx` that a role gets
    output       what a role prints
    nodes        namespaces, TUN and dataplanes of this process; the table for `nm exec`
    dataplane    the only module that imports the native module
"""
