-- The floor of emojis: all emojis.

SELECT a.user_id, a.name, a.description, a.category, a.icon
FROM awards a
JOIN users u ON u.id = a.user_id AND u.hidden IS NOT TRUE
WHERE a.type = 'emoji'
ORDER BY a.date, a.name DESC, a.id;
