"""Run the tests of a lab: `tests:` of a topology or scenario file.

runner      one test after another: attempts, time limits, results
kinds       what each kind of test measures, and whether that is as expected
prober      run `probes` in a node, or in two nodes at once
probes      the program inside the nodes
junit       results as JUnit XML
"""

from __future__ import annotations

from orchestrator.lab.lab_tests.junit import junit
from orchestrator.lab.lab_tests.runner import LabTestResult, run_as_checks, run_lab_tests

__all__ = ["LabTestResult", "junit", "run_as_checks", "run_lab_tests"]
