-- 0030_orders_position.sql
-- Why:    who copies the orders page by page goes on from the last one read. `created_at` is the
--         start of the settling transaction, and two settlers may commit the other way round: an
--         order that became visible behind the reader would never be read. A position is taken
--         when the row is written; `orders_whole_to` tells up to which one nothing is missing.
-- Deploy: before the code. Old code ignores column and function, and its rows get a position, too.
-- Lock:   brief, no rewrite: rows from before have none and come first, in their old order. The
--         indexes take the time of reading the table once.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '60s';

CREATE SEQUENCE orders_position;
ALTER TABLE orders ADD COLUMN position bigint;
ALTER TABLE orders ALTER COLUMN position SET DEFAULT nextval('orders_position');
ALTER SEQUENCE orders_position OWNED BY orders.position;
CREATE INDEX orders_by_show_position ON orders (show, coalesce(position, 0), created_at, id);
CREATE INDEX orders_by_sub_position ON orders (sub, coalesce(position, 0), created_at, id);

-- Before its first position a transaction takes a shared lock named after the last one given so
-- far: a floor under its own. 28783 is "po"; a floor fits its 31 bits for two billion orders.
CREATE FUNCTION orders_take_floor() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(
        28783, coalesce(pg_sequence_last_value('orders_position'), 0)::integer);
    RETURN NULL;
END $$;
CREATE TRIGGER orders_take_floor BEFORE INSERT ON orders
    FOR EACH STATEMENT EXECUTE FUNCTION orders_take_floor();

-- The highest position up to which every order is committed, or never will be. The last one given
-- is read first: whoever takes a floor after that takes higher positions only.
CREATE FUNCTION orders_whole_to() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    given bigint := coalesce(pg_sequence_last_value('orders_position'), 0);
    floor bigint;
BEGIN
    SELECT min(objid::bigint) INTO floor FROM pg_locks
    WHERE locktype = 'advisory' AND classid = 28783 AND objsubid = 2
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database());
    RETURN least(given, floor);
END $$;
