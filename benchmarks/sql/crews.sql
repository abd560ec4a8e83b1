-- The floor of crews: the solved challenges of all users with brackets in their names, for every
-- dojo, module and window, in one bare pass, without ranks.

SELECT dc.dojo_id, dc.module_index, s.user_id, u.name, u.email,
       array_agg(s.challenge_id),
       array_agg(s.challenge_id)
           FILTER (WHERE s.date >= now() AT TIME ZONE 'UTC' - interval '7 days'),
       array_agg(s.challenge_id)
           FILTER (WHERE s.date >= now() AT TIME ZONE 'UTC' - interval '30 days')
FROM dojo_challenges dc
JOIN dojos d USING (dojo_id)
JOIN dojo_modules m USING (dojo_id, module_index)
LEFT JOIN dojo_challenge_visibilities v USING (dojo_id, module_index, challenge_index)
JOIN submissions s ON s.challenge_id = dc.challenge_id AND s.type = 'correct'
JOIN users u ON u.id = s.user_id AND u.hidden IS NOT TRUE AND u.name LIKE '%[%]%'
LEFT JOIN dojo_users du ON du.dojo_id = dc.dojo_id AND du.user_id = s.user_id
WHERE dc.required
  AND (d.official OR d.data ->> 'type' = 'public' OR du.user_id IS NOT NULL)
  AND du.type IS DISTINCT FROM 'admin'
  AND (v.start IS NULL OR s.date >= v.start)
  AND (v.stop IS NULL OR s.date <= v.stop)
GROUP BY dc.dojo_id, dc.module_index, s.user_id, u.name, u.email;
