-- 0045_rare_events_by_row.sql
-- Why:    every step of a payment and of its jobs is an UPDATE, and next to none of them fails. A
--         trigger by statement copied and joined all rows of each settled batch to find that out; one
--         by row with a condition looks at two columns and calls nothing.
-- Deploy: any time. What becomes an event stays the same.
-- Lock:   brief, no rewrite.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '5s';

DROP TRIGGER payments_tell_failed ON payments;
CREATE OR REPLACE FUNCTION tell_failed_payments() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO events (type, show, subject, detail)
    VALUES ('payment.failed', NEW.show, 'order:' || NEW.order_id,
            jsonb_build_object('payment', NEW.id, 'reason', NEW.reason));
    RETURN NULL;
END $$;
CREATE TRIGGER payments_tell_failed AFTER UPDATE ON payments FOR EACH ROW
    WHEN (NEW.state = 'declined' AND OLD.state <> 'declined')
    EXECUTE FUNCTION tell_failed_payments();

DROP TRIGGER money_jobs_tell_failed ON money_jobs;
CREATE OR REPLACE FUNCTION tell_failed_refunds() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO events (type, show, subject, detail)
    SELECT 'refund.failed', p.show, 'order:' || p.order_id,
           jsonb_build_object('refund', jsonb_build_object(
               'amount_minor', NEW.amount_minor, 'reason', NEW.reason))
    FROM payments p WHERE p.id = NEW.payment;
    RETURN NULL;
END $$;
CREATE TRIGGER money_jobs_tell_failed AFTER UPDATE ON money_jobs FOR EACH ROW
    WHEN (NEW.kind = 'refund' AND NEW.state = 'failed' AND OLD.state <> 'failed')
    EXECUTE FUNCTION tell_failed_refunds();
