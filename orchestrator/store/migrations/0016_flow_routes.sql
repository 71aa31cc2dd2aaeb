-- The route that a user-space flow has to take may change while it has not ended, with the words of Nextmini as well.

CREATE OR REPLACE FUNCTION nm_user_flow_fixed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.flow_id, OLD.src_node_id, OLD.dst_node_id, OLD.transport)
        <> (NEW.flow_id, NEW.src_node_id, NEW.dst_node_id, NEW.transport)
        OR (OLD.size_bytes, OLD.duration_ms) IS DISTINCT FROM (NEW.size_bytes, NEW.duration_ms) THEN
        RAISE EXCEPTION 'nodes, length and transport of flow % cannot change', OLD.flow_id
            USING ERRCODE = 'check_violation', HINT = 'insert another flow, and delete this one';
    END IF;
    IF OLD.wanted = 'stopped' AND NEW.wanted = 'running' THEN
        RAISE EXCEPTION 'flow % was stopped, and does not start again', OLD.flow_id
            USING ERRCODE = 'check_violation', HINT = 'insert another flow';
    END IF;
    IF OLD.route_id IS NOT DISTINCT FROM NEW.route_id THEN
        RETURN NEW;
    END IF;
    IF OLD.state NOT IN ('waiting', 'running') THEN
        RAISE EXCEPTION 'flow % has ended, so that its route stays what it was', OLD.flow_id
            USING ERRCODE = 'check_violation', HINT = 'insert another flow';
    END IF;
    IF NEW.route_id IS NOT NULL AND NOT EXISTS (SELECT FROM routes WHERE route_id = NEW.route_id
        AND (src_node_id, dst_node_id) = (NEW.src_node_id, NEW.dst_node_id)) THEN
        RAISE EXCEPTION 'route % is no explicit route from node % to node %', NEW.route_id, NEW.src_node_id,
            NEW.dst_node_id
            USING ERRCODE = 'foreign_key_violation', HINT = 'the table `routes` has the explicit routes of the lab';
    END IF;
    RETURN NEW;
END
$$;

DROP TRIGGER changed ON user_flows;
CREATE TRIGGER changed AFTER INSERT OR DELETE OR UPDATE OF rate_bps, weight, wanted, route_id ON user_flows
    FOR EACH ROW EXECUTE FUNCTION nm_user_flow_changed();
DROP TRIGGER notify ON user_flows;
CREATE TRIGGER notify AFTER INSERT OR DELETE OR UPDATE OF rate_bps, weight, wanted, route_id ON user_flows
    FOR EACH STATEMENT EXECUTE FUNCTION nm_notify();

CREATE FUNCTION nm_write_flow_route() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before bigint;
BEGIN
    IF TG_OP = 'DELETE' THEN
        UPDATE user_flows SET route_id = NULL WHERE flow_id = OLD.flow_id;
        RETURN OLD;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.flow_id <> OLD.flow_id THEN
        RAISE EXCEPTION 'the row of flow % cannot become that of flow %', OLD.flow_id, NEW.flow_id
            USING ERRCODE = 'check_violation', HINT = 'delete it, and insert another';
    END IF;
    IF NEW.route_id IS NULL THEN
        RAISE EXCEPTION 'flow % is given no route', NEW.flow_id
            USING ERRCODE = 'not_null_violation', HINT = 'delete its row, and it takes any route of its nodes';
    END IF;
    SELECT route_id INTO before FROM user_flows WHERE flow_id = NEW.flow_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no user-space flow %', NEW.flow_id
            USING ERRCODE = 'foreign_key_violation', HINT = 'the table `user_flows` has them';
    END IF;
    IF TG_OP = 'INSERT' AND before IS NOT NULL THEN
        RAISE EXCEPTION 'flow % has to take route % already', NEW.flow_id, before
            USING ERRCODE = 'unique_violation', HINT = 'a flow takes one route: update its row';
    END IF;
    UPDATE user_flows SET route_id = NEW.route_id WHERE flow_id = NEW.flow_id;
    RETURN NEW;
END
$$;
CREATE TRIGGER write_flow_route INSTEAD OF INSERT OR UPDATE OR DELETE ON flow_routes
    FOR EACH ROW EXECUTE FUNCTION nm_write_flow_route();

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'nm_user') THEN
        GRANT INSERT, UPDATE, DELETE ON flow_routes TO nm_user;
    END IF;
END
$$;
