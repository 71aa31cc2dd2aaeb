"""Start a Mininet network, print its hosts, and stop it when standard input is closed.

Run by the system's Python, for which Debian installs `mininet`; the virtual environment does not have it.

    mininet_host.py linear N     a line of N switches (Linux bridges) with a host on each
    mininet_host.py pair MBIT    two hosts with a TCLink of this rate between; 0 for none

Prints one line of JSON with the hosts' processes and addresses when the network is up, waits until its input
is closed, takes the network down, and prints how long both took.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main(words: list[str]) -> int:
    """Start the network, wait for the end of input, stop it; return the exit code."""
    from mininet.link import TCLink
    from mininet.log import setLogLevel
    from mininet.net import Mininet
    from mininet.nodelib import LinuxBridge
    from mininet.topo import LinearTopo, Topo

    # Mininet logs progress to standard output, where the caller expects JSON; log errors only.
    setLogLevel("error")
    begin = time.monotonic()
    topo: Any
    if words[0] == "pair":
        topo, mbit = Topo(), float(words[1])
        topo.addLink(topo.addHost("h1"), topo.addHost("h2"), **({"bw": mbit} if mbit else {}))
    else:
        topo = LinearTopo(k=int(words[1]), n=1)
    net: Any = Mininet(topo=topo, switch=LinuxBridge, link=TCLink, controller=None)
    try:
        net.start()
        # A bridge floods an unknown address, so a first ping both proves the line and teaches it.
        up = time.monotonic() - begin
        hosts = [
            {"name": host.name, "pid": host.pid, "address": host.IP(), "device": str(host.defaultIntf())}
            for host in net.hosts
        ]
        print("ready " + json.dumps({"hosts": hosts, "up_seconds": up}), flush=True)
        sys.stdin.read()
    finally:
        begin = time.monotonic()
        net.stop()
        print("stopped " + json.dumps({"down_seconds": time.monotonic() - begin}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
