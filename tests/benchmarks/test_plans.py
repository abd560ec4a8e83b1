"""Plans are read from the log of PostgreSQL, and shown once for each statement."""

from benchmarks.plans import logged, slowest

LOG = """\
2026-11-29 23:52:01.123 UTC [77] LOG:  checkpoint starting: time
2026-11-29 23:52:01.125 UTC [78] LOG:  duration: 1.500 ms  plan:
\tQuery Text: SELECT a
\t  FROM b
\tSeq Scan on b  (cost=0.00..1.00 rows=1 width=4) (actual time=0.001..1.400 rows=1.00 loops=1)
\t  Buffers: shared hit=1
2026-11-29 23:52:01.126 UTC [78] LOG:  duration: 0.200 ms  plan:
\tQuery Text: SELECT 1
\tResult  (cost=0.00..0.01 rows=1 width=4) (actual time=0.001..0.001 rows=1.00 loops=1)
2026-11-29 23:52:01.127 UTC [78] LOG:  duration: 2.500 ms  plan:
\tQuery Text: SELECT a
\t  FROM b
\tIndex Scan on b  (cost=0.00..1.00 rows=1 width=4) (actual time=0.001..2.400 rows=1.00 loops=1)
2026-11-29 23:52:01.128 UTC [78] ERROR:  canceling statement due to user request
"""


def test_each_statement_is_shown_once_with_its_slowest_plan() -> None:
    (count, first), (_, second) = slowest(logged(LOG))
    assert (count, first.milliseconds, first.statement) == (2, 2.5, "SELECT a FROM b")
    assert first.plan.startswith("Index Scan on b  (cost=0.00..1.00 rows=1 width=4)")
    assert (second.statement, second.milliseconds) == ("SELECT 1", 0.2)


def test_a_plan_keeps_its_lines() -> None:
    assert logged(LOG)[0].plan.splitlines()[1] == "  Buffers: shared hit=1"
