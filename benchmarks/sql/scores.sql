-- The floor of scores: counts and latest dates of all users in every public or official dojo and its
-- modules, in one bare pass, unsorted. The result has one array for each scope, because single rows
-- take longer to transfer.

SELECT dojo_id, module_index, array_agg(user_id), array_agg(solves), array_agg(latest)
FROM (
    SELECT dc.dojo_id, dc.module_index, s.user_id, count(*) AS solves, max(s.date) AS latest
    FROM dojo_challenges dc
    JOIN dojos d USING (dojo_id)
    JOIN dojo_modules m USING (dojo_id, module_index)
    JOIN submissions s ON s.challenge_id = dc.challenge_id AND s.type = 'correct'
    WHERE dc.required
      AND s.user_id IS NOT NULL
      AND (d.official OR d.data ->> 'type' = 'public')
    GROUP BY GROUPING SETS ((dc.dojo_id, dc.module_index, s.user_id), (dc.dojo_id, s.user_id))
) AS score
GROUP BY dojo_id, module_index;
