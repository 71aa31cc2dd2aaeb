"""What the Makefile runs: checks of the machine, images, the demo's payload, the reference pages."""
