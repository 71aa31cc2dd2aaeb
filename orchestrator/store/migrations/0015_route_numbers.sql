-- The numbers of routes and of pins: each comes from one sequence, whoever adds the route or the pin.

-- The number that each route of the controller's file has: what tells a route of the file from another one are its
-- nodes and its edges, not its place in the file. One that has no row in `routes` was deleted.
CREATE TABLE file_routes (
    route_id    bigint PRIMARY KEY,
    src_node_id bigint NOT NULL,
    dst_node_id bigint NOT NULL,
    edges       jsonb NOT NULL
);
INSERT INTO file_routes SELECT route_id, src_node_id, dst_node_id, edges FROM routes
    WHERE origin IN ('file', 'computed');
DELETE FROM deleted_from_file WHERE table_name = 'routes';

ALTER TABLE routes ALTER route_id DROP IDENTITY;
ALTER TABLE flow_pins ALTER pin_id DROP IDENTITY;
-- Nodes carry the number of a route in 32 bits.
CREATE SEQUENCE route_numbers MAXVALUE 4294967295 OWNED BY routes.route_id;
CREATE SEQUENCE pin_numbers OWNED BY flow_pins.pin_id;

-- Numbers that a statement gave by itself are left out.
CREATE FUNCTION nm_next_route() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    number bigint;
BEGIN
    LOOP
        number := nextval('route_numbers');
        IF NOT EXISTS (SELECT FROM routes WHERE route_id = number UNION ALL
                       SELECT FROM file_routes WHERE route_id = number) THEN
            RETURN number;
        END IF;
    END LOOP;
END
$$;
CREATE FUNCTION nm_next_pin() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    number bigint;
BEGIN
    LOOP
        number := nextval('pin_numbers');
        IF NOT EXISTS (SELECT FROM flow_pins WHERE pin_id = number) THEN
            RETURN number;
        END IF;
    END LOOP;
END
$$;
ALTER TABLE routes ALTER route_id SET DEFAULT nm_next_route();
ALTER TABLE flow_pins ALTER pin_id SET DEFAULT nm_next_pin();

-- A route of the file that was deleted has its number in `file_routes` still, so that only links are noted here.
CREATE OR REPLACE FUNCTION nm_note_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT AS $$
DECLARE
    key text := (SELECT string_agg(format('%I', each), ', ') FROM unnest(TG_ARGV) AS each);
    rows text := CASE TG_OP
        WHEN 'INSERT' THEN format('SELECT %s FROM new_rows', key)
        WHEN 'DELETE' THEN format('SELECT %s FROM old_rows', key)
        ELSE format('SELECT %1$s FROM new_rows UNION SELECT %1$s FROM old_rows', key) END;
    found jsonb;
BEGIN
    IF nm_by_controller() THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT jsonb_agg(jsonb_build_array(%s)) FROM (%s) AS rows', key, rows) INTO found;
    IF found IS NULL THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'DELETE' AND TG_TABLE_NAME = 'links' THEN
        EXECUTE format('INSERT INTO deleted_from_file SELECT %L, jsonb_build_array(%s) FROM old_rows'
            ' WHERE origin = ''file'' ON CONFLICT DO NOTHING', TG_TABLE_NAME, key);
    END IF;
    INSERT INTO sql_changes (table_name, operation, keys) VALUES (TG_TABLE_NAME, lower(TG_OP), found);
    PERFORM pg_notify('nm_changed', TG_TABLE_NAME);
    RETURN NULL;
END
$$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'nm_user') THEN
        GRANT SELECT ON file_routes TO nm_user;
        GRANT USAGE ON SEQUENCE route_numbers, pin_numbers TO nm_user;
    END IF;
END
$$;
