"""Benchmarks of the testbed, compared with references.

`python -m benchmarks.dataplane` measures the packet path: throughput, small packets and round trips, each
compared with the kernel's own forwarding between namespaces, in the same rounds.
`python -m benchmarks.scale` measures labs: start, stop, memory and idle cost at hundreds and thousands of
nodes. `python -m benchmarks.daily` measures everyday use: small labs, transfers, links.
`python -m benchmarks.fidelity` compares what links do with what is requested.
`benchmarks.chaos` and `benchmarks.transfers` kill processes at random moments and check the results.

    dataplane · scale · daily · fidelity      one command each: its cases and targets
        │
    testbed · peers                what is measured: nm's labs, Mininet
    path_checks                    check that packets take the measured path
        │
    iperf · namespaces · transfer  how it is measured, and the kernel paths to compare with
        │
    machine · sysctls · proc · commands     description of the host, processes with time limits
        │
    targets · figures · report     pure: targets, arithmetic, tables

Names of everything that a run creates begin with `nmbench`; it is removed again, also after errors. Traffic
stays in namespaces and containers of the run.
"""
