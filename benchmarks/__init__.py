"""Benchmarks of the testbed, side by side with references.

`python -m benchmarks.dataplane` measures the packet path: throughput, small packets and round trips, each
beside what the kernel itself does between the same kind of namespaces, in the same rounds.
`python -m benchmarks.scale` measures labs: start, stop, memory and idle cost at hundreds and thousands of
nodes. `python -m benchmarks.daily` measures what a user waits for every day: small labs, transfers, links.

    dataplane · scale · daily      one command each: which cases, which rows
        │
    testbed · peers                what is measured: labs of ours, Mininet
    path_checks                    check that packets take the measured path
        │
    iperf · namespaces · transfer  how it is measured, and the kernel paths to compare with
        │
    machine · sysctls · proc · commands     what the host is, and bounded processes
        │
    targets · figures · report     pure: the rows to reach, the arithmetic, the tables

Everything that is created carries our own prefix and is removed again, whatever happens. Traffic stays in
namespaces made for the purpose.
"""
