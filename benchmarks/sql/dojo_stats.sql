-- The floor of dojo statistics: totals with the chart, the newest solves, and the number of
-- challenges, one bare pass for each. One statement over a shared CTE is slower, because a
-- materialised CTE is not read in parallel.

SELECT dojo_id, sum(solves) AS solves, count(*) AS users,
       sum(d1) AS s1, sum(d7) AS s7, sum(d30) AS s30, sum(d60) AS s60,
       count(*) FILTER (WHERE d1 > 0) AS u1, count(*) FILTER (WHERE d7 > 0) AS u7,
       count(*) FILTER (WHERE d30 > 0) AS u30, count(*) FILTER (WHERE d60 > 0) AS u60
FROM (
    SELECT dc.dojo_id, s.user_id, count(*) AS solves,
           count(*) FILTER (WHERE s.date >= CURRENT_DATE - 1 AND s.date < CURRENT_DATE) AS d1,
           count(*) FILTER (WHERE s.date >= CURRENT_DATE - 7 AND s.date < CURRENT_DATE - 6) AS d7,
           count(*) FILTER (WHERE s.date >= CURRENT_DATE - 30 AND s.date < CURRENT_DATE - 29) AS d30,
           count(*) FILTER (WHERE s.date >= CURRENT_DATE - 60 AND s.date < CURRENT_DATE - 59) AS d60
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
    GROUP BY dc.dojo_id, s.user_id
) AS solvers
GROUP BY dojo_id;

SELECT dojo_id, name, date
FROM (
    SELECT dc.dojo_id, COALESCE(NULLIF(dc.name, ''), dc.id) AS name, s.date,
           row_number() OVER (PARTITION BY dc.dojo_id ORDER BY s.date DESC, s.id DESC) AS place
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
      AND s.date >= now() AT TIME ZONE 'UTC' - interval '7 days'
) AS placed
WHERE place <= 5;

SELECT d.dojo_id, d.id, count(dc.dojo_id) AS challenges,
       count(dc.dojo_id) FILTER (WHERE (v.start IS NULL OR v.start <= now() AT TIME ZONE 'UTC')
                                   AND (v.stop IS NULL OR v.stop >= now() AT TIME ZONE 'UTC'))
           AS visible_challenges
FROM dojos d
LEFT JOIN dojo_challenges dc USING (dojo_id)
LEFT JOIN dojo_challenge_visibilities v USING (dojo_id, module_index, challenge_index)
GROUP BY d.dojo_id;
