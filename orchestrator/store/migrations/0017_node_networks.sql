-- What a node connects the lab to. Only the controller's file says it; of a node, SQL changes `wanted` alone.

ALTER TABLE nodes
    ADD COLUMN prefixes cidr[] NOT NULL DEFAULT '{}',   -- the networks behind it
    ADD COLUMN uplink boolean NOT NULL DEFAULT false;   -- whether it has a way to the outside
