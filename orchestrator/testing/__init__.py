"""Pytest fixtures and helpers for test suites that use labs.

    pytest_plugin   the plugin of the distribution: the marker `lab`, the fixtures `lab` and `run_scenario`
    lab_pool        labs that stay up between tests, and their reset
    lab_report      what is added to the report of a test that failed
    plugin          fixtures for a lab per test; `from orchestrator.testing.plugin import *` in a conftest.py
    leftovers       what is left of labs on this machine

```python
@pytest.mark.lab("ring.yaml", backend="native")
def test_my_protocol_survives_loss(lab, run_scenario):
    lab.link(1, 2).set(loss="2 %")
    assert run_scenario("./my-scenario").verdict == "pass"
```
"""
