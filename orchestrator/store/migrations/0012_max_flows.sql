-- Flows that nodes in max mode carry, as the nodes at which they entered report them. Read only: a flow is what its
-- client made. Times are microseconds since 1970. The latest 100,000 are kept.

CREATE TABLE max_flows (
    node_id     bigint NOT NULL,              -- where it entered
    flow_id     numeric(20) NOT NULL,
    entry       text NOT NULL,                -- socks5 or redirected
    client      text NOT NULL,                -- host:port
    destination text NOT NULL,                -- host:port, as the client named it
    route       bigint[] NOT NULL,            -- the nodes that it passes; empty when it was not connected
    start_us    bigint NOT NULL,
    finish_us   bigint,
    bytes_out   numeric(20) NOT NULL,         -- from the client
    bytes_in    numeric(20) NOT NULL,         -- to the client
    reason      text NOT NULL DEFAULT '',     -- why it failed or was reset
    PRIMARY KEY (node_id, flow_id)
);

CREATE INDEX max_flows_latest ON max_flows (start_us);
CREATE INDEX max_flows_running ON max_flows (start_us) WHERE finish_us IS NULL;
