-- The optional index that the documentation names: all that a pass over counted solves reads, in one
-- place. Never required.
CREATE INDEX IF NOT EXISTS submissions_solves_dated ON submissions (challenge_id, user_id)
    INCLUDE (date, id) WHERE type = 'correct';
VACUUM ANALYZE submissions;
