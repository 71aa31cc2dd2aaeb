-- `wanted` of a node may be changed by SQL: the controller has its process stopped, started, paused or resumed,
-- or writes a rejection where it cannot. Nodes are added and removed by `nm node add` and `remove` alone.

CREATE OR REPLACE FUNCTION nm_check_node() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nm_by_controller() THEN
        IF TG_OP = 'DELETE' THEN
            RETURN OLD;
        END IF;
        RETURN NEW;
    END IF;
    IF TG_OP <> 'UPDATE' THEN
        RAISE EXCEPTION 'nodes do not come and go by SQL, because their processes have to be started and ended'
            USING ERRCODE = 'feature_not_supported', HINT = 'nm node add, nm node remove';
    END IF;
    IF to_jsonb(NEW) - '{wanted,id}'::text[] <> to_jsonb(OLD) - '{wanted,id}'::text[] THEN
        RAISE EXCEPTION 'of a node, only `wanted` is changed by SQL'
            USING ERRCODE = 'feature_not_supported', HINT = 'running, stopped or paused';
    END IF;
    IF NEW.wanted IS NULL OR NEW.wanted NOT IN ('running', 'stopped', 'paused') THEN
        RAISE EXCEPTION 'node % cannot be wanted %', OLD.node_id, NEW.wanted
            USING ERRCODE = 'check_violation', HINT = 'running, stopped or paused';
    END IF;
    IF OLD.external AND NEW.wanted <> OLD.wanted THEN
        RAISE EXCEPTION 'node % is external: its program is not run by nm', OLD.node_id
            USING ERRCODE = 'check_violation', HINT = 'end or start that program yourself';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER note_update AFTER UPDATE ON nodes REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION nm_note_change('node_id');
