-- Reports of nodes hold flat lists of numbers, as the nodes send them. Flows of programs have a number, the time of
-- their last report and their route, and changes of the route are kept.

DROP TABLE node_metrics CASCADE;  -- with the views of it

CREATE TABLE node_metrics (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    time        timestamptz NOT NULL,
    node_id     bigint NOT NULL,
    -- process, its CPU time in ms, packets and bytes from and to the node's programs, flows that are not recorded
    -- completely, packets of flows that are not recorded at all
    totals      bigint[] NOT NULL,
    -- of each link: neighbour, packets and bytes sent, packets and bytes received, packets and bytes in the queue
    links       bigint[],
    drops       jsonb,     -- by neighbour, and by cause; neighbour 0: before a link was chosen, or after it
    flow_ids    bytea,     -- 16 bytes each
    flow_counts bigint[],  -- of each of them: packets, bytes
    groups      bigint[],  -- of each group: its number, packets and bytes sent, packets and bytes received
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
    SELECT id, time, node_id, links[i] AS remote_node_id, links[i + 1] AS tx_packets, links[i + 2] AS tx_bytes,
        links[i + 3] AS rx_packets, links[i + 4] AS rx_bytes, links[i + 5] AS queued_packets,
        links[i + 6] AS queued_bytes,
        -- Empty when no more were dropped since the report before.
        coalesce(drops -> links[i]::text, '{}') AS drops
    FROM node_metrics, generate_series(1, cardinality(links), 7) AS i;

CREATE VIEW flow_counters AS
    SELECT id, time, node_id, 0::bigint AS remote_node_id, substring(flow_ids FROM 16 * i - 15 FOR 16) AS flow_id,
        flow_counts[2 * i - 1] AS packets, flow_counts[2 * i] AS bytes, i AS place
    FROM node_metrics, generate_series(1, cardinality(flow_counts) / 2) AS i;

CREATE VIEW group_counters AS
    SELECT id, time, node_id, groups[i] AS group_id, groups[i + 1] AS tx_packets, groups[i + 2] AS tx_bytes,
        groups[i + 3] AS rx_packets, groups[i + 4] AS rx_bytes
    FROM node_metrics, generate_series(1, cardinality(groups), 5) AS i;

CREATE VIEW session_counters AS
    SELECT id, time, node_id, session.*
    FROM node_metrics, jsonb_to_recordset(sessions) AS session (
        session bigint, role text, source bigint, state text, total_bytes bigint, done_bytes bigint,
        sent_bytes bigint, repair_bytes bigint, receivers bigint, rtt_us bigint);

-- Nextmini's name. A report has at most 1,024 directions of flows.
CREATE VIEW metrics AS
    SELECT id * 1024 + place AS id, flow_id, node_id AS local_node_id, remote_node_id, bytes, time AS time_read
    FROM flow_counters;

-- Packets and bytes of a flow of programs are those of its report at seen_ms; while it runs, one in ten seconds is
-- written here.
ALTER TABLE flows
    ADD COLUMN id      bigint GENERATED ALWAYS AS IDENTITY,
    ADD COLUMN seen_ms bigint;
UPDATE flows SET seen_ms = coalesce(finish_ms, extract(epoch FROM now())::bigint * 1000) WHERE controller_id IS NULL;
CREATE UNIQUE INDEX flows_number ON flows (id);
CREATE INDEX flows_seen ON flows (seen_ms) WHERE controller_id IS NULL;
DROP INDEX flows_finished;

CREATE OR REPLACE VIEW app_flows AS
    SELECT id, flow_id, start_ms AS start_time, src_node_id, dst_node_id, finish_ms IS NOT NULL AS is_finished,
        finish_ms AS finish_time, route_id, name, start_us, finish_us, packets, bytes, rx_packets, rx_bytes,
        answered_us, seen_ms AS seen_time
    FROM flows WHERE controller_id IS NULL;

CREATE FUNCTION nm_report_app_flow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO flows (flow_id, start_ms, node_id, src_node_id, dst_node_id, name, start_us, finish_ms, finish_us,
        packets, bytes, rx_packets, rx_bytes, answered_us, route_id, seen_ms)
    VALUES (NEW.flow_id, NEW.start_us / 1000, NEW.src_node_id, NEW.src_node_id, NEW.dst_node_id, NEW.name,
        NEW.start_us, NEW.finish_us / 1000, NEW.finish_us, NEW.packets, NEW.bytes, NEW.rx_packets, NEW.rx_bytes,
        NEW.answered_us, NEW.route_id, NEW.seen_time)
    ON CONFLICT (flow_id, start_ms) DO UPDATE SET finish_ms = excluded.finish_ms, finish_us = excluded.finish_us,
        packets = excluded.packets, bytes = excluded.bytes, rx_packets = excluded.rx_packets,
        rx_bytes = excluded.rx_bytes, answered_us = excluded.answered_us, route_id = excluded.route_id,
        seen_ms = excluded.seen_ms;
    RETURN NEW;
END
$$;
CREATE TRIGGER report INSTEAD OF INSERT ON app_flows FOR EACH ROW EXECUTE FUNCTION nm_report_app_flow();

-- Flows of programs that went on on another explicit route; null is the table of next hops.
CREATE TABLE route_changes (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    time          timestamptz NOT NULL,  -- of the first report after the change
    flow_id       bytea NOT NULL,
    start_ms      bigint NOT NULL,
    from_route_id numeric(20),
    route_id      numeric(20)
);
CREATE INDEX route_changes_time ON route_changes (time);

CREATE FUNCTION nm_note_route_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO route_changes (time, flow_id, start_ms, from_route_id, route_id)
    VALUES (coalesce(to_timestamp(NEW.seen_ms / 1000.0), now()), NEW.flow_id, NEW.start_ms, OLD.route_id, NEW.route_id);
    RETURN NULL;
END
$$;
CREATE TRIGGER note_route AFTER UPDATE OF route_id ON flows FOR EACH ROW
    WHEN (NEW.controller_id IS NULL AND OLD.route_id IS DISTINCT FROM NEW.route_id)
    EXECUTE FUNCTION nm_note_route_change();

CREATE VIEW flow_route_changes AS
    SELECT change.id, change.time, change.flow_id, flow.name, flow.src_node_id, flow.dst_node_id,
        change.from_route_id, change.route_id
    FROM route_changes AS change LEFT JOIN flows AS flow USING (flow_id, start_ms);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'nm_user') THEN
        GRANT SELECT ON ALL TABLES IN SCHEMA public TO nm_user;
    END IF;
END
$$;
