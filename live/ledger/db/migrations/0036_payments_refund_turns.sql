-- 0036_payments_refund_turns.sql
-- Why:    the refunds of a payment are decided by one worker at a time, each by itself. Who has the
--         turn holds its number, and writes nothing once another one has a newer turn; news of the
--         provider's waits at the payment until all its refunds were looked up.
-- Deploy: before the code. Old code takes no turns: while it works beside new code, its refunds are
--         as they were. What it doubts in money_jobs is looked up here once; new code has no doubts.
-- Lock:   brief, no rewrite; the index takes the time of reading the table once.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '60s';

ALTER TABLE payments
    ADD COLUMN refunds_turn bigint NOT NULL DEFAULT 0,
    ADD COLUMN refunds_until timestamptz NOT NULL DEFAULT '-infinity',
    -- When the provider had news of its refunds that nobody has looked at yet; NULL: it had none.
    ADD COLUMN refunds_news_at timestamptz;
UPDATE payments SET refunds_news_at = now()
WHERE id IN (SELECT payment FROM money_jobs WHERE doubted);
CREATE INDEX payments_with_refund_news ON payments (refunds_news_at)
    WHERE refunds_news_at IS NOT NULL;
