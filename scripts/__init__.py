"""Programs that the Makefile runs: checks, images, the demo's payload, reference pages."""
