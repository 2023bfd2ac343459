-- 0037_shipments.sql
-- Why:    what happens to an order after it was sold: parcels, returns, the withdrawal that a buyer
--         declared. Who copies orders also asks which have changed: each change gets a position
--         from the sequence of 0030, so that a page of changes misses none either.
-- Deploy: before the code. Old code ignores all of it; a trigger notes what it changes.
-- Lock:   brief, no rewrite: orders from before have no time and no position of a change, and are
--         as they were made. The index takes the time of reading the table once.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '60s';

ALTER TABLE orders
    ADD COLUMN fulfilment text NOT NULL DEFAULT 'unfulfilled'
        CHECK (fulfilment IN ('unfulfilled', 'partial', 'shipped', 'delivered', 'returned')),
    ADD COLUMN reference  text,                 -- the shop's own number of this order
    -- The shop took it back, and Redis was not asked: its offers go on counting its units as sold.
    ADD COLUMN shop_cancelled boolean NOT NULL DEFAULT false
        CHECK (NOT shop_cancelled OR state = 'cancelled'),
    ADD COLUMN updated_at timestamptz,          -- NULL: never since `created_at`
    ADD COLUMN changed    bigint;               -- NULL: never since `position`
CREATE INDEX orders_by_change ON orders
    (coalesce(changed, position, 0), coalesce(updated_at, created_at), id);

-- The floor is taken as for an INSERT, so `orders_whole_to` waits for changes, too. With those a
-- floor fits its 31 bits for some 400 million orders.
CREATE TRIGGER orders_take_floor_to_change BEFORE UPDATE ON orders
    FOR EACH STATEMENT EXECUTE FUNCTION orders_take_floor();
CREATE FUNCTION orders_note_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := clock_timestamp();
    NEW.changed := nextval('orders_position');
    RETURN NEW;
END $$;
CREATE TRIGGER orders_note_change BEFORE UPDATE ON orders
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION orders_note_change();

-- A line is the place of an item among the order's, from 1, by the id of its offer (COLLATE "C").
CREATE TABLE shipments (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    order_id        uuid NOT NULL REFERENCES orders,
    carrier         text NOT NULL,
    tracking_number text NOT NULL,
    tracking_url    text NOT NULL DEFAULT '',
    status          text NOT NULL DEFAULT 'shipped'
                    CHECK (status IN ('shipped', 'delivered', 'returned_to_sender')),
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX shipments_by_order ON shipments (order_id);
CREATE TABLE shipment_items (
    shipment uuid NOT NULL REFERENCES shipments,
    line     integer NOT NULL CHECK (line >= 1),
    qty      integer NOT NULL CHECK (qty >= 1),
    PRIMARY KEY (shipment, line)
);

CREATE TABLE returns (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    order_id     uuid NOT NULL REFERENCES orders,
    reason       text NOT NULL,
    state        text NOT NULL DEFAULT 'requested'
                 CHECK (state IN ('requested', 'approved', 'refused', 'received')),
    refund_minor bigint CHECK (refund_minor >= 0),  -- NULL until it was received
    restocked    boolean NOT NULL DEFAULT false,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX returns_by_order ON returns (order_id);
CREATE TABLE return_items (
    return uuid NOT NULL REFERENCES returns,
    line   integer NOT NULL CHECK (line >= 1),
    qty    integer NOT NULL CHECK (qty >= 1),
    PRIMARY KEY (return, line)
);

-- The buyer's own declaration and what we answered, word for word: never changed, never deleted.
CREATE TABLE withdrawals (
    order_id   uuid PRIMARY KEY REFERENCES orders,
    statement  text NOT NULL,
    return     uuid REFERENCES returns,             -- NULL: nothing had left the shop
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER withdrawals_append_only BEFORE UPDATE OR DELETE ON withdrawals
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
