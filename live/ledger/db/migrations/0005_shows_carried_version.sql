-- 0005_shows_carried_version.sql
-- Why:    an ended show is left alone only when Redis and its viewers know the end of it.
-- Deploy: before the code. Old code ignores the column.   Lock: brief, no rewrite.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '5s';

-- The version that the keeper last brought to Redis; written for ended shows only.
ALTER TABLE shows ADD COLUMN carried_version bigint NOT NULL DEFAULT 0;
