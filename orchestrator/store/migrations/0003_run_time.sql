-- When a run started, on a clock that no one sets: seconds since the machine was booted, and which boot that was.
-- A controller that comes back on the same boot knows exactly how much of its time a run has used.

ALTER TABLE runs ADD COLUMN started_monotonic double precision NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN boot text NOT NULL DEFAULT '';
