-- The floor of all activity: every user's solves of the last year, in one bare pass. Nothing is
-- sorted.

SELECT user_id, array_agg(date)
FROM submissions
WHERE type = 'correct'
  AND user_id IS NOT NULL
  AND date >= now() AT TIME ZONE 'UTC' - interval '365 days'
GROUP BY user_id;
