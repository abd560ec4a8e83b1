-- The floor of challenge solves: all counts, in one bare pass.

SELECT dc.dojo_id, dc.module_index, dc.challenge_id, count(*)
FROM dojo_challenges dc
JOIN dojos d USING (dojo_id)
JOIN dojo_modules m USING (dojo_id, module_index)
LEFT JOIN dojo_challenge_visibilities v USING (dojo_id, module_index, challenge_index)
JOIN submissions s ON s.challenge_id = dc.challenge_id AND s.type = 'correct'
JOIN users u ON u.id = s.user_id AND u.hidden IS NOT TRUE
LEFT JOIN dojo_users du ON du.dojo_id = dc.dojo_id AND du.user_id = s.user_id
WHERE dc.required
  AND (d.official OR d.data ->> 'type' = 'public' OR du.user_id IS NOT NULL)
  AND du.type IS DISTINCT FROM 'admin'
  AND (v.start IS NULL OR s.date >= v.start)
  AND (v.stop IS NULL OR s.date <= v.stop)
GROUP BY dc.dojo_id, dc.module_index, dc.challenge_id;
