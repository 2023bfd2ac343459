-- 0022_offers_guests_by_choice.sql
-- Why:    an offer takes guests only where its host says so.
-- Deploy: with the code; offers that are there keep what they say.   Lock: brief, no rewrite.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '5s';

ALTER TABLE offers ALTER COLUMN guests SET DEFAULT false;
