-- Metrics: one row per node and report with what changed, in arrays, so that a thousand nodes a second stay far below
-- a megabyte of rows a second. The views unpack them. Counters begin again with another process of the node.

DROP VIEW metrics;
DROP TABLE link_counters, flow_counters;

CREATE TABLE node_metrics (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    time        timestamptz NOT NULL,
    node_id     bigint NOT NULL,
    -- process, its CPU time in ms, packets and bytes from and to the node's programs, flows that are not recorded
    -- completely, packets of flows that are not recorded at all
    totals      bigint[] NOT NULL,
    -- rows of: neighbour, packets and bytes sent, packets and bytes received, packets and bytes in the queue
    links       bigint[],
    drops       jsonb,     -- by neighbour, and by cause; neighbour 0: before a link was chosen, or after it
    flow_ids    uuid[],    -- 16 bytes, no UUIDs
    flow_counts bigint[],  -- rows of: packets, bytes
    groups      bigint[],  -- rows of: group, packets and bytes sent, packets and bytes received
    sessions    jsonb
);
CREATE INDEX node_metrics_time ON node_metrics (time);

CREATE VIEW node_counters AS
    SELECT id, time, node_id, totals[1] AS process, totals[2] AS cpu_ms, totals[3] AS packets_out,
        totals[4] AS bytes_out, totals[5] AS packets_in, totals[6] AS bytes_in,
        totals[7] AS flows_forgotten, totals[8] AS packets_unrecorded,
        coalesce(drops -> '0', '{}') AS drops
    FROM node_metrics;

CREATE VIEW link_counters AS
    SELECT id, time, node_id, links[i][1] AS remote_node_id, links[i][2] AS tx_packets, links[i][3] AS tx_bytes,
        links[i][4] AS rx_packets, links[i][5] AS rx_bytes, links[i][6] AS queued_packets,
        links[i][7] AS queued_bytes,
        -- Empty when no more were dropped since the report before.
        coalesce(drops -> links[i][1]::text, '{}') AS drops
    FROM node_metrics, generate_subscripts(links, 1) AS i;

CREATE VIEW flow_counters AS
    SELECT id, time, node_id, 0::bigint AS remote_node_id, uuid_send(flow_ids[i]) AS flow_id,
        flow_counts[i][1] AS packets, flow_counts[i][2] AS bytes, i AS place
    FROM node_metrics, generate_subscripts(flow_ids, 1) AS i;

CREATE VIEW group_counters AS
    SELECT id, time, node_id, groups[i][1] AS group_id, groups[i][2] AS tx_packets, groups[i][3] AS tx_bytes,
        groups[i][4] AS rx_packets, groups[i][5] AS rx_bytes
    FROM node_metrics, generate_subscripts(groups, 1) AS i;

CREATE VIEW session_counters AS
    SELECT id, time, node_id, session.*
    FROM node_metrics, jsonb_to_recordset(sessions) AS session (
        session bigint, role text, source bigint, state text, total_bytes bigint, done_bytes bigint,
        sent_bytes bigint, repair_bytes bigint, receivers bigint, rtt_us bigint);

-- Nextmini's name. A report has at most 1,024 directions of flows.
CREATE VIEW metrics AS
    SELECT id * 1024 + place AS id, flow_id, node_id AS local_node_id, remote_node_id, bytes, time AS time_read
    FROM flow_counters;

-- What is known about flows of programs. Packets and bytes of a flow that runs are those of its first report.
ALTER TABLE flows
    ADD COLUMN name        text NOT NULL DEFAULT '',
    ADD COLUMN start_us    bigint,
    ADD COLUMN finish_us   bigint,
    ADD COLUMN packets     bigint,
    ADD COLUMN rx_packets  bigint,
    ADD COLUMN rx_bytes    bigint,
    ADD COLUMN answered_us bigint;
CREATE INDEX flows_finished ON flows (finish_ms) WHERE finish_ms IS NOT NULL;
CREATE OR REPLACE VIEW app_flows AS
    SELECT row_number() OVER (ORDER BY start_ms, flow_id) AS id, flow_id, start_ms AS start_time, src_node_id,
        dst_node_id, finish_ms IS NOT NULL AS is_finished, finish_ms AS finish_time, route_id, name, start_us,
        finish_us, packets, bytes, rx_packets, rx_bytes, answered_us
    FROM flows WHERE controller_id IS NULL;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'nm_user') THEN
        GRANT SELECT ON ALL TABLES IN SCHEMA public TO nm_user;
    END IF;
END
$$;
