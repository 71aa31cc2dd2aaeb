import nextmini_py as nm
dp = nm.Dataplane("/abs/path/to/node-config.toml")
print(dp.node_id)
