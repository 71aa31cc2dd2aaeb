"""Kill parts of labs at random moments, and check the result of each kill: `python -m benchmarks.chaos`.

Without `--heal` the lab restarts nothing, and `nm up` repairs it; with `--heal` it restarts its parts itself.

draw             victim, phase, moment and repair of every kill, from one seed
commands         `nm` as a separate process, with a time limit
labs             kills in a lab that restarts nothing
leftovers        what a lab has left on the machine
report           its table

recovery         kills in a lab that restarts its parts
victims          parts of a lab, on either backend
recovery_report  its table
"""
