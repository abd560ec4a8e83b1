-- Set marks, for those who are not handlers: a daemon that starts, an operator, a replay.
--
-- request: marks (arrays of name, class, delay)

tick()
set_marks(request.marks)
