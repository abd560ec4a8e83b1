-- The floor of activity: the solves of all users in the last year, in one bare pass, unsorted.

SELECT user_id, array_agg(date)
FROM submissions
WHERE type = 'correct'
  AND user_id IS NOT NULL
  AND date >= now() AT TIME ZONE 'UTC' - interval '365 days'
GROUP BY user_id;
