"""The texts of numbers in arrays are right, whoever makes them at the same time."""

from statsd.boards.arrays import _Texts


class Interrupted(bytes):
    """A form during whose first use another thread comes."""

    texts: "_Texts"
    uses = 0

    def __mod__(self, number: object) -> bytes:
        self.uses += 1
        if self.uses == 1:
            self.texts.up_to(9)
        return super().__mod__(number)


def test_two_threads_may_ask_for_texts_at_once() -> None:
    form = Interrupted(b"<%d>")
    form.texts = texts = _Texts(form)
    assert texts.up_to(4)[:5] == [b"<%d>" % number for number in range(5)]
    assert texts.up_to(12)[:13] == [b"<%d>" % number for number in range(13)]
