import nextmini_py as nm
dp_src = nm.Dataplane("/abs/path/to/source-node.toml")
dp_src.wait_for_topology_ready(timeout_ms=30_000)
dp_src.create_group("weights-sync")
group_id, group_ip, src_node = dp_src.group_is_ready(timeout_ms=30_000)
dp_src.set_group_routes(group_id, [(src_node, 2), (2, 3)])
view = nm.PacketBuilder(size=4096)
view.write(b"...serialized payload...")
frozen = view.freeze()
send_sid = dp_src.send_data(
    group_id=group_id,
    dest_ip=group_ip,
    receiver_ids=[2, 3],
    buffer=frozen,
    chunk_size=8192,
)
print(dp_src.lossless_wait(send_sid, timeout_ms=60_000))
