"""Write the results of tests as JUnit XML, which CI systems show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from orchestrator.lab.lab_tests.runner import LabTestResult

__all__ = ["junit"]

# Control characters that XML 1.0 has no way to write.
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(suite: str, results: Sequence[LabTestResult], timestamp: str = "") -> str:
    """Return the results as a document with one test suite.

    Args:
        suite: The suite's name, and the class of its tests.
        results: What came of the tests.
        timestamp: When they began, ISO 8601.
    """
    totals = {
        "tests": str(len(results)),
        "failures": str(sum(not each.ok for each in results)),
        "errors": "0",
        "skipped": "0",
        "time": f"{sum(each.seconds for each in results):.3f}",
    }
    root = ElementTree.Element("testsuites", {"name": "nm test", **totals})
    stamp = {"timestamp": timestamp} if timestamp else {}
    below = ElementTree.SubElement(root, "testsuite", {"name": _text(suite), **totals, **stamp})
    for each in results:
        case = ElementTree.SubElement(
            below,
            "testcase",
            {"name": _text(each.name), "classname": _text(suite), "time": f"{each.seconds:.3f}"},
        )
        if each.ok:
            ElementTree.SubElement(case, "system-out").text = _text(each.detail)
        else:
            failure = {"message": _text(each.detail), "type": "test.failed"}
            ElementTree.SubElement(case, "failure", failure).text = _text(each.detail)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _text(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
