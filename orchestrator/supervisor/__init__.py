"""The supervisor of a native lab: a small process that restarts parts that ended.

    files       its files in the lab's folder, and how a process that finds it dead starts it again
    restarts    when a part is restarted, and when no longer
    watch       the processes of the lab, and which of them have ended
    __main__    the process: wait, restart, report

It waits in the kernel for all parts at once and imports little of the standard library. A part is started by
`orchestrator.deploy.native.restart`, in a process of its own, so that the supervisor stays small and survives
any failure there.
"""
