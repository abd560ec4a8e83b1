import pytest

from statsd.errors import SettingsError
from statsd.switches import parse_switch, read_switch


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", True), ("true", True), ("TRUE", True), ("0", False), ("false", False), ("False", False)],
)
def test_a_switch_is_0_1_true_or_false_in_any_case(text: str, value: bool) -> None:
    assert parse_switch("SWITCH", text) is value


@pytest.mark.parametrize("text", ["", "2", "yes", "on", " 1", "01", "truee"])
def test_anything_else_is_an_error_that_names_the_variable(text: str) -> None:
    with pytest.raises(SettingsError, match=r"SWITCH is .*0, 1, true or false"):
        parse_switch("SWITCH", text)


def test_a_switch_that_is_not_set_has_its_default() -> None:
    assert read_switch("SWITCH", default=True, environ={}) is True
    assert read_switch("SWITCH", default=False, environ={}) is False
    assert read_switch("SWITCH", default=True, environ={"SWITCH": "0"}) is False


def test_the_environment_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCH", "false")
    assert read_switch("SWITCH", default=True) is False
