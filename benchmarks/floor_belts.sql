-- The floor of belts: all of them, transferred as COPY does.
\set ON_ERROR_STOP on
SET jit = off;
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;

COPY (
    SELECT a.name, a.date, a.user_id, u.name, u.website
    FROM awards a
    JOIN users u ON u.id = a.user_id AND u.hidden IS NOT TRUE
    WHERE a.type = 'belt'
    ORDER BY a.date, a.id
) TO STDOUT;

COMMIT;
