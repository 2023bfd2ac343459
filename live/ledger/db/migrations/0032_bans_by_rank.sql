-- 0032_bans_by_rank.sql
-- Why:    a restriction reaches those below who made it, and is lifted by nobody below him.
-- Deploy: before the code. Old code writes the default.   Lock: brief, no rewrite.
SET LOCAL lock_timeout = '4s';  SET LOCAL statement_timeout = '5s';
ALTER TABLE bans ADD COLUMN rank smallint NOT NULL DEFAULT 1;
