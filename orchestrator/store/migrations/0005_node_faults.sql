-- What each node shall be by request (running, stopped or paused), and the groups of the partition in force, to
-- which links that are added later belong as well.

ALTER TABLE nodes ADD COLUMN wanted text NOT NULL DEFAULT 'running';
ALTER TABLE lab ADD COLUMN partition_groups jsonb NOT NULL DEFAULT '[]';
