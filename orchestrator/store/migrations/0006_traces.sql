-- The contents of the traces that links play, once for each; links name them by their digest (SHA-256).

CREATE TABLE traces (
    digest  text PRIMARY KEY,
    content bytea NOT NULL
);
