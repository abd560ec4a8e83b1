-- The scoreboard of a dojo or of one of its modules, in a window of some days: users and solves.

SELECT s.user_id, count(*)
FROM dojo_challenges dc
JOIN dojos d USING (dojo_id)
JOIN dojo_modules m USING (dojo_id, module_index)
LEFT JOIN dojo_challenge_visibilities v USING (dojo_id, module_index, challenge_index)
JOIN submissions s ON s.challenge_id = dc.challenge_id AND s.type = 'correct'
JOIN users u ON u.id = s.user_id AND u.hidden IS NOT TRUE
LEFT JOIN dojo_users du ON du.dojo_id = dc.dojo_id AND du.user_id = s.user_id
WHERE dc.dojo_id = %(dojo_id)s
  AND (%(module_index)s::int IS NULL OR dc.module_index = %(module_index)s)
  AND (%(days)s::int IS NULL
       OR s.date >= now() AT TIME ZONE 'UTC' - %(days)s::int * interval '1 day')
  AND dc.required
  AND (d.official OR d.data ->> 'type' = 'public' OR du.user_id IS NOT NULL)
  AND du.type IS DISTINCT FROM 'admin'
  AND (v.start IS NULL OR s.date >= v.start)
  AND (v.stop IS NULL OR s.date <= v.stop)
GROUP BY s.user_id
ORDER BY count(*) DESC, max(s.id);
