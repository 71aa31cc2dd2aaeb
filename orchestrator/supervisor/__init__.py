"""The supervisor of a native lab: one small process that starts parts again that ended.

    files       what it keeps in the lab's folder, and how whoever finds it dead starts it again
    restarts    how soon a part is started again, and when it is left dead
    watch       which processes the lab's note names, and which of them have ended
    __main__    the process: wait, start again, say so

It waits in the kernel for all parts at once and imports nothing but a little of the standard library.
Starting a part is the business of `orchestrator.deploy.native.restart`, in a process of its own that ends
afterwards, so that the supervisor stays small and survives whatever goes wrong there.
"""
