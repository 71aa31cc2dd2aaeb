import asyncio
import nextmini_py as nm
dp_dst = nm.Dataplane("/abs/path/to/receiver-node.toml")
dp_dst.wait_for_topology_ready(timeout_ms=30_000)
dp_dst.join_group(group_id=1)
dp_dst.set_group_routes(group_id=1, edges=[(1, 2), (2, 3)])
recv_sid = dp_dst.receive_data(
    group_id=1,
    dest_ip="239.255.0.10",
    source_node_id=1,
    expected_bytes=1_024_000,
    chunk_size=8192,
)
async def wait_for_session() -> None:
    ok = await dp_dst.lossless_wait_async(recv_sid, timeout_ms=60_000)
    if not ok:
        raise TimeoutError(f"lossless receive did not complete: {recv_sid}")
asyncio.run(wait_for_session())
payload = dp_dst.get_data_buffer(recv_sid, consume=True)
print(bytes(payload.read()))
