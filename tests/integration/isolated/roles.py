"""Roles that fork, wait for each other, and crash."""

import hashlib
import os

SIZE = 1_000_000


def sender(ctx):
    data = os.urandom(SIZE)
    ctx.publish("digest", hashlib.sha256(data).hexdigest())
    ctx.barrier("ready", timeout=30)
    session = ctx.dataplane.send_data(0, ctx.address(2), [2], data)
    ctx.report(complete=ctx.dataplane.lossless_wait(session, timeout_ms=30_000), pid=os.getpid())
    print("sent")
    ctx.barrier("over", timeout=30)


async def receiver(ctx):
    session = ctx.dataplane.receive_data(0, ctx.address(2), 1, SIZE)
    await ctx.barrier_async("ready", timeout=30)
    complete = await ctx.dataplane.lossless_wait_async(session, timeout_ms=30_000)
    data = ctx.dataplane.get_data_buffer(session)
    status = forked(ctx)
    same = hashlib.sha256(data).hexdigest() == await ctx.lookup_async("digest", timeout=30)
    ctx.report(same=complete and same, child=status, pid=os.getpid())
    await ctx.barrier_async("over", timeout=30)


def forked(ctx):
    """What a forked process ends with: 0 if it is refused."""
    child = os.fork()
    if child == 0:
        os._exit(0 if refused(ctx) else 1)
    return os.waitpid(child, 0)[1]


def refused(ctx):
    """Whether a forked process is told that it has neither a dataplane nor a context."""
    found = []
    for call in (ctx.dataplane.statistics, lambda: ctx.report(a=1)):
        try:
            call()
        except Exception as error:
            found.append(error.id)
    return found == ["attach.forked", "scenario.forked"]


def crasher(ctx):
    ctx.report(pid=os.getpid())
    ctx.barrier("ready", timeout=30)
    if ctx.params.crash:
        os.abort()
    ctx.barrier("over", timeout=30)
