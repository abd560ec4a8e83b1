-- The floor of belts: all belts.

SELECT a.name, a.date, a.user_id, u.name, u.website
FROM awards a
JOIN users u ON u.id = a.user_id AND u.hidden IS NOT TRUE
WHERE a.type = 'belt'
ORDER BY a.date, a.id;
