-- The floor of scoreboards: counts and tie-breaks of all users in every dojo, module and window, in
-- one bare pass, with names and e-mail addresses, unsorted.

SELECT entry.*, users.name, users.email
FROM (
    SELECT dc.dojo_id, dc.module_index, s.user_id, count(*), max(s.id),
           count(*) FILTER (WHERE s.date >= now() AT TIME ZONE 'UTC' - interval '7 days'),
           max(s.id) FILTER (WHERE s.date >= now() AT TIME ZONE 'UTC' - interval '7 days'),
           count(*) FILTER (WHERE s.date >= now() AT TIME ZONE 'UTC' - interval '30 days'),
           max(s.id) FILTER (WHERE s.date >= now() AT TIME ZONE 'UTC' - interval '30 days')
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
    GROUP BY GROUPING SETS (
        (dc.dojo_id, dc.module_index, s.user_id), (dc.dojo_id, s.user_id)
    )
) AS entry
JOIN users ON users.id = entry.user_id;
