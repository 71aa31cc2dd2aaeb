import nextmini_py as nm
dp = nm.Dataplane("/abs/path/to/source-node.toml")
dp.wait_for_topology_ready(timeout_ms=30_000)
dp.create_group("training-run")
group_id, group_ip, src_node = dp.group_is_ready(timeout_ms=30_000)
dp.set_group_routes(group_id, [(src_node, 2), (2, 3)])
if not dp.wait_for_group_routes(group_id, src_node, min_routes=1, timeout_ms=30_000):
    raise TimeoutError("routes were not installed in time")
control_rx = dp.register_receiver_for_group(src_node_id=src_node, group_ip=group_ip)
