"""Entries that no publisher of this project writes, each with its expected fate."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

DEAD, IGNORED = "dead", "ignored"
DEEP = 100_000  # levels; msgspec and the interpreter give up at about a thousand
LARGE = 1024 * 1024  # bytes

Fields = dict[Any, Any]


@dataclass(frozen=True)
class Real:
    """Ids of existing rows, and ids of deleted rows."""

    user: int
    challenge: int
    dojo: int
    gone_user: int
    gone_challenge: int
    gone_dojo: int


def entries(real: Real, chance: random.Random) -> Iterator[tuple[Fields, str]]:
    """Yield entries without end, each with its fate: `DEAD` or `IGNORED`."""
    makers = [(maker, fate) for fate, group in _MAKERS.items() for maker in group]
    while True:
        maker, fate = chance.choice(makers)
        made = maker(real, chance)
        yield (made if isinstance(made, dict) else {"data": made}), fate


def _event(kind: object, payload: object, **more: object) -> bytes:
    return orjson.dumps({"type": kind, "payload": payload} | more)


def _solve(user_id: object, challenge_id: object) -> bytes:
    return _event("challenge_solve", {"user_id": user_id, "challenge_id": challenge_id})


def _literal_solve(user_id: str) -> bytes:
    """Return a solve with an id that no JSON encoder writes."""
    return _solve("(id)", 1).replace(b'"(id)"', user_id.encode())


def _huge(chance: random.Random) -> int:
    return chance.choice([2**31, 2**32 + 7, 2**63 - 1, 2**64 - 1, -(2**31) - 1, 0, -7])


Maker = Callable[[Real, random.Random], bytes | Fields]

_MAKERS: dict[str, list[Maker]] = {
    DEAD: [
        lambda _real, chance: chance.randbytes(chance.randrange(1, 2000)),
        lambda _real, chance: b"\x00" + chance.randbytes(LARGE if chance.random() < 0.05 else 9),
        lambda _real, _chance: b"",
        lambda _real, _chance: {"other": b"{}"},
        lambda _real, chance: {chance.randbytes(8): chance.randbytes(8) for _ in range(20)},
        # Deep
        lambda _real, _chance: b"[" * DEEP,
        lambda _real, _chance: b'{"type": ' * DEEP,
        lambda _real, _chance: b'{"type": "belts_update", "x": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        # Of wrong types
        lambda _real, chance: orjson.dumps(chance.choice([None, 7, "belts_update", [], True, 1.5])),
        lambda _real, chance: _event(chance.choice([None, 7, [], {}, True]), {}),
        lambda _real, chance: _event("belts_update", chance.choice([7, "{}", [], True])),
        lambda real, chance: _solve(
            chance.choice([None, True, 7.0, [7], {"id": 7}]), real.challenge
        ),
        lambda _real, _chance: _event("challenge_solve", {}),
        lambda _real, _chance: _event("challenge_solve", None),
        lambda real, _chance: _event(
            "scoreboard_update", {"model_type": "module", "model_id": real.dojo}
        ),
        lambda _real, chance: _event(
            chance.choice(["party_started", "", "BELTS_UPDATE", "x" * 9999]), {}
        ),
        # Strings where numbers belong
        lambda real, _chance: _solve("abc", real.challenge),
        lambda real, _chance: _solve(str(real.user), real.challenge),
        lambda real, _chance: _solve(real.user, str(real.challenge)),
        lambda real, _chance: _event("user_update", {"user_id": str(real.user)}),
        lambda real, _chance: _event("activity_update", {"user_id": str(real.user)}),
        lambda real, _chance: _event("dojo_stats_update", {"dojo_id": str(real.dojo)}),
        # Huge ids
        lambda real, chance: _solve(_huge(chance), real.challenge),
        lambda real, chance: _solve(real.user, _huge(chance)),
        lambda _real, chance: _event(
            "dojo_stats_update", {"dojo_id": chance.choice([2**31, 2**64 - 1])}
        ),
        lambda _real, chance: _literal_solve(
            chance.choice(["1e400", "-0", "1" + "0" * 5000, "NaN", "07"])
        ),
        # Almost right
        lambda real, chance: _solve(real.user, real.challenge)[: chance.randrange(1, 60)],
        lambda real, _chance: _solve(real.user, real.challenge) + b"{}",
        lambda real, _chance: b"\xef\xbb\xbf" + _solve(real.user, real.challenge),
        lambda real, _chance: _solve(real.user, real.challenge).decode().encode("utf-16"),
        lambda _real, _chance: b'{"type": "\xff", "payload": {}}',
        lambda _real, _chance: b'{"type": "\\ud800", "payload": {}}',
    ],
    IGNORED: [
        lambda real, _chance: _solve(real.gone_user, real.challenge),
        lambda real, _chance: _solve(real.user, real.gone_challenge),
        lambda _real, _chance: _solve(2**31 - 1, 2**31 - 1),
        lambda real, _chance: _event("dojo_stats_update", {"dojo_id": real.gone_dojo}),
        lambda _real, _chance: _event("dojo_stats_update", {"dojo_id": -(2**31)}),
        lambda real, _chance: _event("activity_update", {"user_id": real.gone_user}),
        lambda real, _chance: _event("scores_update", {"dojo_id": real.gone_dojo}, more=[{}] * 50),
        lambda _real, _chance: b'{"type": "belts_update", "payload": null}',
        lambda _real, _chance: {"data": b'{"type": "emojis_update"}', b"\xff": b"\xff"},
    ],
}
