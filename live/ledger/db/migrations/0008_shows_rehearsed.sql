-- 0008_shows_rehearsed.sql
-- Why:    a rehearsal must leave nothing behind: no payment, no order, no hold.
-- Deploy: before the code. Old code ignores the column.   Lock: brief, no rewrite.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '5s';

-- True from the start of a rehearsal until Redis has begun a new life of the show's stock after it.
ALTER TABLE shows ADD COLUMN rehearsed boolean NOT NULL DEFAULT false;

-- Whatever a process believes that has not heard of the rehearsal yet: no money moves in one.
CREATE FUNCTION refuse_payment_in_rehearsal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM shows WHERE id = NEW.show AND rehearsed) THEN
        RAISE EXCEPTION 'show % is rehearsed: no payments', NEW.show;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER payments_never_in_rehearsal BEFORE INSERT ON payments
    FOR EACH ROW EXECUTE FUNCTION refuse_payment_in_rehearsal();
