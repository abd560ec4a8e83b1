-- The floor of a cold start: what each user has in each dojo, over all dojos, in one bare pass. There
-- is an entry for each challenge row and solve. It is scored (1) if the row is required and the dojo
-- open to all, and visible (2) if the solve counts but for the row being required. The result has an
-- array for each challenge row, because single rows take longer to transfer, and so do arrays for
-- each pair of dojo and user.

SELECT dojo_id, module_index, challenge_index, challenge_id,
       array_agg(user_id), array_agg(id), array_agg(date),
       array_agg((scored::int + 2 * visible::int)::smallint)
FROM (
    SELECT dc.dojo_id, dc.module_index, dc.challenge_index, dc.challenge_id, s.user_id, s.id, s.date,
           COALESCE(dc.required AND (d.official OR d.data ->> 'type' = 'public'), false) AS scored,
           COALESCE(
               u.id IS NOT NULL
               AND u.hidden IS NOT TRUE
               AND (d.official OR d.data ->> 'type' = 'public' OR du.user_id IS NOT NULL)
               AND du.type IS DISTINCT FROM 'admin'
               AND (v.start IS NULL OR s.date >= v.start)
               AND (v.stop IS NULL OR s.date <= v.stop),
               false
           ) AS visible
    FROM dojo_challenges dc
    JOIN dojos d USING (dojo_id)
    JOIN dojo_modules m USING (dojo_id, module_index)
    LEFT JOIN dojo_challenge_visibilities v USING (dojo_id, module_index, challenge_index)
    JOIN submissions s
        ON s.challenge_id = dc.challenge_id AND s.type = 'correct' AND s.user_id IS NOT NULL
    LEFT JOIN users u ON u.id = s.user_id
    LEFT JOIN dojo_users du ON du.dojo_id = dc.dojo_id AND du.user_id = s.user_id
) AS entry
WHERE scored OR visible
GROUP BY dojo_id, module_index, challenge_index, challenge_id;
