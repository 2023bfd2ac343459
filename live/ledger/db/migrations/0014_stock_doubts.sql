-- 0014_stock_doubts.sql
-- Why:    Redis sold what the ledger could not accept: its stock is made again, also if the settler
--         that noticed dies before it could ask for that.
-- Deploy: before the code. Old code ignores the table.   Lock: none, the table is new.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '5s';

-- A row is written in the transaction that rejects an order or puts an entry aside, and deleted in
-- the one that begins a new life of the show's stock. No column of shows: settlers that reject must
-- not wait for a host's command on the show, which may wait for their offers.
CREATE TABLE stock_doubts (
    show       text PRIMARY KEY,
    reason     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
