"""Test the text for Prometheus: every line has the form that the format asks for."""

from __future__ import annotations

import dataclasses
import re

from orchestrator.controller.rest.prometheus import exposition
from orchestrator.protocol import messages as m

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (-?[0-9.]+(?:e[+-][0-9]+)?)")
STATE = m.MetricsState(0, 1_000, 3_600, 5, 1, 0)


def node(**more: object) -> m.NodeMetrics:
    link = m.LinkMetrics(2, 10, 2**53 + 1, 5, 260, 4, 6_000, {"loss": 3}, 0.0, 0.0, 0.0, 0.0)
    return m.NodeMetrics(1, 1_500, 255, 1, 2, 3, 4, 0.0, 0.0, links=(link,), **more)  # type: ignore[arg-type]  # by name


def test_the_text_has_the_form_of_the_format() -> None:
    session = m.SessionCounter(4, "sender", 1, "active", 9, 5, 6, 0, 3, 812)
    odd = {'a "quoted" \\ word\n': 7}
    text = exposition([(1, node(drops=odd, sessions=(session,))), (2, node())], STATE)
    assert text.endswith("\n")
    types: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types, "a name has one type and is in one place"
            types[name] = kind
        elif not line.startswith("# HELP "):
            found = SAMPLE.fullmatch(line)
            assert found, line
            assert found[1] == name, "samples stand behind their type"
    assert types["nm_link_tx_bytes_total"] == "counter"
    assert types["nm_link_queued_bytes"] == "gauge"
    assert f'nm_link_tx_bytes_total{{node="2",remote="2"}} {2**53 + 1}' in text, "64 bits, not rounded"
    assert r'nm_dropped_packets_total{node="1",remote="0",cause="a \"quoted\" \\ word\n"} 7' in text
    assert 'nm_session_sent_bytes_total{node="1",session="4",role="sender"} 6' in text
    assert 'nm_process_cpu_seconds_total{process="ff"} 1.5' in text
    assert 'nm_session_rtt_seconds{node="1",session="4"} 0.000812' in text
    assert "nm_metrics_refused_total 1" in text


def test_a_lab_without_reports_has_a_text_too() -> None:
    assert "nm_metrics_reports_total 5" in exposition([], STATE)


def test_the_cpu_time_of_a_process_is_that_of_its_node_that_reported_last() -> None:
    idle = dataclasses.replace(node(), cpu_ms=1_000)
    assert 'nm_process_cpu_seconds_total{process="ff"} 1.5\n' in exposition([(1, node()), (2, idle)], STATE)
