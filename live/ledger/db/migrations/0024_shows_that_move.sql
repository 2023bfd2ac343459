-- 0024_shows_that_move.sql
-- Why:    the lists of shows that a settler looks after are complete at any number of shows and
--         cost what moves, not what there is; an ended show leaves Redis when nothing needs it.
-- Deploy: before the code. Old code ignores the column.   Lock: brief; small indexes.
SET LOCAL lock_timeout = '4s';
SET LOCAL statement_timeout = '30s';

-- When the keys of an ended show were given an end in Redis; NULL while Redis may hold them.
ALTER TABLE shows ADD COLUMN retired_at timestamptz;

CREATE INDEX shows_on_air ON shows (id) WHERE status IN ('rehearsal', 'live', 'paused');
CREATE INDEX shows_to_carry ON shows (id) WHERE carried_version < version;
CREATE INDEX shows_to_clear ON shows (id) WHERE rehearsed;
CREATE INDEX shows_to_retire ON shows (id) WHERE status = 'ended' AND retired_at IS NULL;
CREATE INDEX shows_announcing ON shows (announcement_until) WHERE announcement_until IS NOT NULL;
CREATE INDEX offers_on_sale ON offers (show)
    WHERE phase IN ('scheduled', 'open', 'paused', 'closing');
CREATE INDEX offers_to_open ON offers (opens_at) WHERE phase = 'scheduled';
CREATE INDEX offers_to_close ON offers (closes_at) WHERE phase IN ('scheduled', 'open', 'paused');
