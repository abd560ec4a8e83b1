-- The floor of all activity: every user's solves of the last year, in one bare pass, transferred
-- as COPY does. Nothing is sorted.
\set ON_ERROR_STOP on
SET jit = off;
SET work_mem = '64MB';
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;

COPY (
    SELECT user_id, array_agg(date)
    FROM submissions
    WHERE type = 'correct'
      AND user_id IS NOT NULL
      AND date >= now() AT TIME ZONE 'UTC' - interval '365 days'
    GROUP BY user_id
) TO STDOUT;

COMMIT;
