"""Kill parts of labs at random moments, and check how each case ends: `python -m benchmarks.chaos`.

Without `--heal` the lab restarts nothing, and `nm up` repairs it; with `--heal` it restarts its parts itself.

draw       which part is killed in which phase, when, and how the lab goes on: all from one seed
commands   `nm` as a user starts it, each with a limit
labs       one lab through one kill after the other
proof      what a lab has left on the machine
report     the table

healing    a lab that heals itself, through one kill after the other
victims    its parts, on either backend
healing_report  its table
"""
