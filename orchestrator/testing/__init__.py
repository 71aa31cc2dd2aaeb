"""Pytest fixtures and helpers for test suites that use labs.

    plugin    the fixtures; `from orchestrator.testing.plugin import *` in a conftest.py, or `-p`
    proof     what is left of labs on this machine

```python
def test_my_protocol_survives_loss(labs):
    lab = labs.up("topologies/ring.yaml", overrides=["defaults.link.loss=2 %"])
    assert lab.run_scenario("./my-scenario").verdict == "pass"
```
"""
