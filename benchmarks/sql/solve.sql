-- The floor of a solve ($1 is the user): the dojos and modules that its challenge ($2) stands in, with
-- what decides whether they count it. Then what the user has in those dojos ($2), and the dojos'
-- numbers of challenges ($1).

SELECT dc.dojo_id, dc.module_index, dc.required, s.id, s.date,
       d.id AS slug, COALESCE(d.official, false) AS official,
       COALESCE(d.official OR d.data ->> 'type' = 'public', false)
           OR EXISTS (SELECT FROM dojo_users du
                      WHERE du.dojo_id = dc.dojo_id AND du.user_id = s.user_id) AS is_touched
FROM submissions s
JOIN dojo_challenges dc USING (challenge_id)
JOIN dojos d USING (dojo_id)
JOIN dojo_modules m USING (dojo_id, module_index)
WHERE s.user_id = $1 AND s.challenge_id = $2 AND s.type = 'correct';

SELECT wanted.dojo_id, entry.*
FROM unnest($2::int[]) AS wanted (dojo_id)
CROSS JOIN LATERAL (
    SELECT dc.module_index, dc.challenge_index, dc.challenge_id, s.id, s.date,
           dc.required AND (d.official OR d.data ->> 'type' = 'public') AS scored,
           u.id IS NOT NULL
               AND u.hidden IS NOT TRUE
               AND (d.official OR d.data ->> 'type' = 'public' OR du.user_id IS NOT NULL)
               AND du.type IS DISTINCT FROM 'admin'
               AND (v.start IS NULL OR s.date >= v.start)
               AND (v.stop IS NULL OR s.date <= v.stop) AS visible
    FROM dojo_challenges dc
    JOIN dojos d USING (dojo_id)
    JOIN dojo_modules m USING (dojo_id, module_index)
    LEFT JOIN dojo_challenge_visibilities v USING (dojo_id, module_index, challenge_index)
    JOIN submissions s
        ON s.challenge_id = dc.challenge_id AND s.type = 'correct' AND s.user_id = $1
    LEFT JOIN users u ON u.id = s.user_id
    LEFT JOIN dojo_users du ON du.dojo_id = dc.dojo_id AND du.user_id = s.user_id
    WHERE dc.dojo_id = wanted.dojo_id
    OFFSET 0  -- so that it is planned for one pair, which has its index
) AS entry;

SELECT dc.dojo_id, count(*) AS challenges,
       count(*) FILTER (WHERE (v.start IS NULL OR v.start <= now() AT TIME ZONE 'UTC')
                          AND (v.stop IS NULL OR v.stop >= now() AT TIME ZONE 'UTC'))
           AS visible_challenges
FROM dojo_challenges dc
LEFT JOIN dojo_challenge_visibilities v USING (dojo_id, module_index, challenge_index)
WHERE dc.dojo_id = ANY($1::int[])
GROUP BY dc.dojo_id;
