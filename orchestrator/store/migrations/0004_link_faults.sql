-- Links that were taken down: by a request for one direction or both, and by a partition of the lab. Both are
-- kept apart, so that the end of a partition brings up only what it took down.

ALTER TABLE links ADD COLUMN forward_down boolean NOT NULL DEFAULT false;
ALTER TABLE links ADD COLUMN backward_down boolean NOT NULL DEFAULT false;
ALTER TABLE links ADD COLUMN partitioned boolean NOT NULL DEFAULT false;
