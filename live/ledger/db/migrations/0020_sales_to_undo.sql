-- 0020_sales_to_undo.sql
-- Why:    a sale that the ledger refuses gives its units back in Redis by itself, also if the settler
--         that refused it dies before it could ask for that; nobody else of the show notices.
-- Deploy: before the code. Old code ignores the table.   Lock: none, the table is new.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '5s';

-- A row is written in the transaction that refuses a sale, and deleted when Redis has its units back,
-- or when a new life of the show's stock begins, which has never heard of that sale.
CREATE TABLE sales_to_undo (
    show       text NOT NULL,
    buyer      bytea NOT NULL CHECK (length(buyer) = 16),
    key        uuid NOT NULL,
    reason     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (show, buyer, key)
);
