-- Runs of scenarios. What a run produced outlives its nodes, and the controller.

CREATE TABLE runs (
    run         text PRIMARY KEY,
    scenario    text NOT NULL,
    state       text NOT NULL,               -- running, stopping, finished, failed
    reason      text NOT NULL DEFAULT '',
    entry       text NOT NULL,
    params      jsonb NOT NULL,
    seed        numeric(20) NOT NULL,
    timeout_s   double precision NOT NULL,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz
);

CREATE TABLE run_files (
    run     text NOT NULL REFERENCES runs ON DELETE CASCADE,
    path    text NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (run, path)
);

CREATE TABLE run_roles (
    run       text NOT NULL REFERENCES runs ON DELETE CASCADE,
    node_id   bigint NOT NULL,
    role      text NOT NULL,
    state     text NOT NULL,                 -- waiting, sent, running, finished, failed, lost
    error     text,
    traceback text,
    PRIMARY KEY (run, node_id)
);

CREATE TABLE run_rows (
    run     text NOT NULL REFERENCES runs ON DELETE CASCADE,
    node_id bigint NOT NULL,
    seq     bigint NOT NULL,                 -- counts a role's rows from 1
    role    text NOT NULL,
    content jsonb NOT NULL,
    time    timestamptz NOT NULL,
    PRIMARY KEY (run, node_id, seq)
);

CREATE TABLE run_values (
    run   text NOT NULL REFERENCES runs ON DELETE CASCADE,
    key   text NOT NULL,
    value jsonb NOT NULL,
    PRIMARY KEY (run, key)
);

CREATE TABLE run_barriers (
    run        text NOT NULL REFERENCES runs ON DELETE CASCADE,
    name       text NOT NULL,
    generation bigint NOT NULL,              -- the last one released
    PRIMARY KEY (run, name)
);

CREATE TABLE run_events (
    run  text NOT NULL REFERENCES runs ON DELETE CASCADE,
    seq  bigint NOT NULL,
    time timestamptz NOT NULL,
    kind text NOT NULL,
    node bigint NOT NULL DEFAULT 0,
    role text NOT NULL DEFAULT '',
    data jsonb,
    PRIMARY KEY (run, seq)
);

CREATE TABLE results (
    run      text PRIMARY KEY,
    verdict  text NOT NULL,
    document jsonb NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT now()
);
