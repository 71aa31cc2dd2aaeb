"""Named sets of impairments, with the sources of their numbers.

A profile states a whole link: what it does not name is none. In a profile with two directions, `forward` is
the downlink and `backward` the uplink. A link's `forward` is from its first endpoint to its second, so the
first endpoint is the side of the network, and the second that of the user.

Published round-trip times are halved for each direction. A source that gives no value for a property is
complemented by nothing, or by a value that its summary calls chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from orchestrator.impairment import LinkSpec

__all__ = ["PROFILES", "Profile"]


@dataclass(frozen=True, slots=True)
class Profile:
    """A named set of impairments.

    Attributes:
        summary: What kind of link it is.
        source: Where the numbers come from.
        forward: The downlink, or both directions.
        backward: The uplink, where it differs.
    """

    summary: str
    source: str
    forward: LinkSpec
    backward: LinkSpec | None = None

    def spec(self, direction: str) -> LinkSpec:
        """Return what one direction does, `forward` or `backward`."""
        return self.forward if direction == "forward" or self.backward is None else self.backward


def _spec(rate_kbit: int | None, delay_us: int, **more: float | str | bool) -> LinkSpec:
    rate = {} if rate_kbit is None else {"rate_bps": rate_kbit * 1_000}
    return LinkSpec.from_wire({**rate, "delay_us": delay_us, **more})


_WEBPAGETEST = "WebPageTest, settings/connectivity.ini.sample"
_FCC_2016 = (
    "median of the FCC's Measuring Broadband America 2016, as in "
    "verizon.com/about/our-company/network-performance"
)
_OOKLA_2021 = "median of Ookla Speedtest in the USA, third quarter of 2021"
_WIFI = (
    "Pei et al., WiFi Can Be the Weakest Link of Round Trip Network Latency in the Wild, INFOCOM 2016: {}; "
    "the rate is chosen"
)
_CABLE = "{}, at the 5 us/km of ITU-T G.114"

_SATELLITE_GEO = Profile(
    "a geostationary satellite",
    f"{_OOKLA_2021}: Viasat, 18.75 and 2.96 Mbit/s, round trip 629 ms",
    _spec(18_750, 314_500),
    _spec(2_960, 314_500),
)

PROFILES: Mapping[str, Profile] = {
    "good-wifi": Profile(
        "a wireless LAN after tuning",
        _WIFI.format("median round trip of 10 ms"),
        _spec(100_000, 5_000, jitter_us=2_000),
    ),
    "congested-wifi": Profile(
        "a wireless LAN with many stations",
        _WIFI.format("round trips above 20 ms for half of the packets, above 100 ms for 10 %"),
        _spec(20_000, 20_000, jitter_us=20_000, jitter_distribution="pareto"),
    ),
    "3g": Profile(
        "a mobile network of the third generation",
        f"{_WEBPAGETEST}: 3G, 1.6 Mbit/s and 768 kbit/s, round trip 300 ms",
        _spec(1_600, 150_000),
        _spec(768, 150_000),
    ),
    "weak-4g": Profile(
        "the slowest quarter of 4G connections",
        "Lighthouse, docs/throttling.md: slow 4G, 1.6 Mbit/s and 750 kbit/s, round trip 150 ms",
        _spec(1_600, 75_000),
        _spec(750, 75_000),
    ),
    "4g": Profile(
        "a mobile network of the fourth generation (LTE)",
        f"{_WEBPAGETEST}: LTE, 12 Mbit/s, round trip 70 ms",
        _spec(12_000, 35_000),
    ),
    "5g": Profile(
        "a mobile network of the fifth generation",
        "ITU-R M.2410, least requirements of IMT-2020: 100 and 50 Mbit/s, 4 ms one way",
        _spec(100_000, 4_000),
        _spec(50_000, 4_000),
    ),
    "dsl": Profile(
        "ADSL, tier of 3.1 to 7 Mbit/s",
        f"{_FCC_2016}: 5.66 and 0.82 Mbit/s, round trip 37 ms",
        _spec(5_660, 18_500),
        _spec(820, 18_500),
    ),
    "cable": Profile(
        "a cable modem",
        f"{_WEBPAGETEST}: Cable, 5 and 1 Mbit/s, round trip 28 ms",
        _spec(5_000, 14_000),
        _spec(1_000, 14_000),
    ),
    "fiber": Profile(
        "fibre to the home, tier of 75 Mbit/s",
        f"{_FCC_2016}: 79.74 and 85.68 Mbit/s, round trip 11.55 ms",
        _spec(79_740, 5_775),
        _spec(85_680, 5_775),
    ),
    "satellite-geo": _SATELLITE_GEO,
    "satellite": replace(_SATELLITE_GEO, summary="the same as satellite-geo"),
    "satellite-leo": Profile(
        "satellites in low orbit",
        f"{_OOKLA_2021}: Starlink, 87.25 and 13.54 Mbit/s, round trip 44 ms; quartiles of the round trip "
        "10 ms from its median: Michel et al., A First Look at Starlink Performance, IMC 2022",
        _spec(87_250, 22_000, jitter_us=10_000),
        _spec(13_540, 22_000, jitter_us=10_000),
    ),
    "transatlantic": Profile(
        "a cable between Europe and North America",
        _CABLE.format("MAREA, 6,600 km"),
        _spec(None, 33_000),
    ),
    "transpacific": Profile(
        "a cable between Asia and North America",
        _CABLE.format("Unity, 9,620 km"),
        _spec(None, 48_100),
    ),
    "datacenter": Profile(
        "two servers of one rack row",
        "Guo et al., Pingmesh, SIGCOMM 2015: within a pod, median round trip 216 us, loss 1.31e-5, 10 Gbit/s",
        _spec(10_000_000, 108, loss=1.31e-5),
    ),
    "lossy-wan": Profile(
        "a long path that loses packets in bursts",
        "loss as in the worst of three classes of the FCC's Measuring Broadband America, above 1 %; all "
        "else is chosen",
        _spec(None, 50_000, jitter_us=5_000, loss=0.01, loss_burst=3.0),
    ),
}
