import pytest

from statsd.errors import SettingsError
from statsd.switches import parse_switch, read_switch


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(text, True) for text in ("1", " 1 ", "true", "TRUE", "yes", "Yes", "on", "ON")],
        *[(text, False) for text in ("0", "false", "False", "no", "NO", "off", "Off")],
    ],
)
def test_a_switch_is_a_number_or_a_word_in_any_case(text: str, value: bool) -> None:
    assert parse_switch("SWITCH", text) is value


@pytest.mark.parametrize("text", ["", "2", "y", "enabled", "01", "truee", " "])
def test_anything_else_is_an_error_that_names_the_variable(text: str) -> None:
    with pytest.raises(SettingsError, match=r"SWITCH is .*0, 1, true, false, yes, no, on or off"):
        parse_switch("SWITCH", text)


def test_a_switch_that_is_not_set_has_its_default() -> None:
    assert read_switch("SWITCH", default=True, environ={}) is True
    assert read_switch("SWITCH", default=False, environ={}) is False
    assert read_switch("SWITCH", default=True, environ={"SWITCH": "0"}) is False


def test_an_empty_switch_has_its_default() -> None:
    for default in (True, False):
        for empty in ("", " "):
            assert read_switch("SWITCH", default=default, environ={"SWITCH": empty}) is default


@pytest.mark.parametrize("default", [True, False])
def test_a_wrong_switch_is_logged_and_has_its_default(
    caplog: pytest.LogCaptureFixture, default: bool
) -> None:
    """It does not stop a web application."""
    assert read_switch("SWITCH", default=default, environ={"SWITCH": "perhaps"}) is default
    wanted = "0, 1, true, false, yes, no, on or off"
    assert caplog.messages == [f"SWITCH is 'perhaps': it takes {wanted}; it counts as {default:d}"]


def test_the_environment_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCH", "false")
    assert read_switch("SWITCH", default=True) is False
