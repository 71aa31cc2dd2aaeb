"""Tests of the architecture: imports, packaging, scripts, pages."""
