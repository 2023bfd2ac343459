-- 0009_offers_sold_out.sql
-- Why:    a host marks an offer sold out although units are left (a damaged box, a fault of price).
-- Deploy: before the code. Old code ignores the column.   Lock: brief, no rewrite.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '5s';

-- Beside phase 'paused' only: the stock engine sells none, and buyers read "sold out".
ALTER TABLE offers ADD COLUMN sold_out boolean NOT NULL DEFAULT false;
