-- The floor of all scores: every user's count and latest date in every public or official dojo
-- and its modules, in one bare pass. Nothing is sorted.

SELECT dc.dojo_id, dc.module_index, s.user_id, count(*), max(s.date)
FROM dojo_challenges dc
JOIN dojos d USING (dojo_id)
JOIN dojo_modules m USING (dojo_id, module_index)
JOIN submissions s ON s.challenge_id = dc.challenge_id AND s.type = 'correct'
WHERE dc.required
  AND s.user_id IS NOT NULL
  AND (d.official OR d.data ->> 'type' = 'public')
GROUP BY GROUPING SETS ((dc.dojo_id, dc.module_index, s.user_id), (dc.dojo_id, s.user_id));
