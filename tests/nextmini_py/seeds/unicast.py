import nextmini_py as nm
dp = nm.Dataplane("/abs/path/to/node-config.toml")
receiver = dp.register_receiver_from_node(src_node_id=1, src_port=40000, dst_port=50000)
payload = nm.PacketView(b"hello")
dp.send_to_node(dst_node_id=2, frozen=payload, src_port=40000, dst_port=50000)
delivery = receiver.recv(timeout_ms=5_000)
if delivery is None:
    print("timed out")
else:
    print(delivery.src_ip, delivery.src_port, len(delivery.payload))
