"""Samples of files of other programs, in the forms that their documentation shows."""

GRAPHML = """\
<?xml version="1.0" encoding="utf-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
  <key attr.name="Network" attr.type="string" for="graph" id="d1"/>
  <key attr.name="label" attr.type="string" for="node" id="d2"/>
  <key attr.name="Latitude" attr.type="double" for="node" id="d3"/>
  <key attr.name="Longitude" attr.type="double" for="node" id="d4"/>
  <key attr.name="Country" attr.type="string" for="node" id="d5"/>
  <key attr.name="LinkLabel" attr.type="string" for="edge" id="d6"/>
  <key attr.name="LinkSpeedRaw" attr.type="double" for="edge" id="d7"/>
  <graph edgedefault="undirected">
    <data key="d1">Four Cities</data>
    <node id="0"><data key="d2">New York</data><data key="d3">40.71427</data><data key="d4">-74.00597</data>
      <data key="d5">United States</data></node>
    <node id="1"><data key="d2">S&#227;o Paulo</data><data key="d3">-23.5475</data>
      <data key="d4">-46.63611</data></node>
    <node id="2"><data key="d2">New York</data></node>
    <node id="3"><data key="d2">&#26481;&#20140;</data></node>
    <edge source="0" target="1"><data key="d6">&lt; 10 Gbps</data><data key="d7">10000000000.0</data></edge>
    <edge source="1" target="2"><data key="d6">OC-3</data></edge>
    <edge source="2" target="1"><data key="d6">E1</data></edge>
    <edge source="2" target="2"/>
    <edge source="0" target="3"><data key="d6">dark fibre</data></edge>
  </graph>
</graphml>
"""

CSV = """\
# links of a small network
a,b,rate,delay,loss,forward.jitter
1,2,100 Mbit,5 ms,0.1 %,
3,1,"1 Gbit",10 ms,"{mean: 1 %, burst: 5}",2 ms
"""

CONTAINERLAB = """\
name: srl02
mgmt: {network: custom}
topology:
  kinds:
    nokia_srlinux: {image: ghcr.io/nokia/srlinux, type: ixrd3}
  nodes:
    srl1: {kind: nokia_srlinux, startup-config: a.cfg, labels: {rack: r 1}}
    srl2: {kind: nokia_srlinux, group: spine}
    client: {kind: linux, image: alpine, exec: ["ip a"]}
  links:
    - endpoints: ["srl1:e1-1", "srl2:e1-1"]
      mtu: 1500
    - type: veth
      endpoints:
        - {node: srl2, interface: e1-2}
        - {node: client, interface: eth1}
    - endpoints: ["srl1:e1-9", "host:srl1-e1-9"]
    - {type: macvlan, endpoint: {node: client, interface: eth2}}
"""

NETLAB = """\
name: lab
module: [ospf]
defaults.device: frr
groups:
  core: {members: [r1, r2], bgp.as: 65000}
nodes:
  r1:
  r2: {device: eos, id: 7}
  c-3:
  h:
links:
- r1-r2
- r1-c-3
- {r1: {tc.delay: 10}, h: {ipv4: 10.0.0.1/24}, bandwidth: 100000, tc: {loss: 1}}
- {r2: , h: , tc: {delay: 20, jitter: 3, rate: 512}, mtu: 1400}
- [r2, c-3, h]
- h
- group: more
  members: [{interfaces: [{node: c-3}, {node: h}]}]
"""

COMPOSE = """\
version: "3"
services:
  web:
    image: nginx:${TAG:-1.27}
    ports: ["8080:80"]
    depends_on: {redis: {condition: service_healthy}, worker: {condition: service_started, required: false}}
    volumes: ["./html:/usr/share/nginx/html:ro", "data:/data:z"]
    environment: [A=1, HOME]
    networks: [front]
  redis:
    image: redis:7
    command: redis-server --bind 0.0.0.0
    healthcheck: {test: ["CMD", "redis-cli", "ping"], interval: 5s, timeout: 2s, retries: 3}
    restart: unless-stopped
    deploy: {resources: {limits: {cpus: "0.5", memory: 256M}}, replicas: 2}
  worker:
    build: {context: ., args: [X=1]}
    network_mode: service:redis
    environment: {N: 010, Y: yes, PW: $NM_TEST_PASSWORD, COST: 1$$}
  debug: {image: busybox, profiles: [debug]}
volumes: {data: {driver: local}}
"""
