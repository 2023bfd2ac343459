-- 0016_ways_to_pay.sql
-- Why:    a show, and each of its offers, may take fewer ways to pay than the shop does.
-- Deploy: before the code. Old code ignores the columns.   Lock: brief, no rewrite.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '5s';

-- Names of providers; empty: no narrower than the show, or the shop.
ALTER TABLE shows ADD COLUMN providers text[] NOT NULL DEFAULT '{}';
ALTER TABLE offers ADD COLUMN providers text[] NOT NULL DEFAULT '{}';
