import pytest

from kd_heuristics.runtime import nearest

NAMES = ("digits", "digits_photo", "cifar10", "cifar100")


@pytest.mark.parametrize("name", NAMES)
def test_a_valid_name_is_returned(name):
    assert nearest.choose(name, NAMES, "dataset") == name


@pytest.mark.parametrize(
    ("value", "suggested"),
    [
        ("cifar11", "cifar10"),
        ("CIFAR100", "cifar100"),
        ("digit", "digits"),
        ("digits-photo", "digits_photo"),
    ],
)
def test_the_message_has_the_value_the_nearest_and_all(value, suggested):
    with pytest.raises(ValueError, match="dataset") as caught:
        nearest.choose(value, NAMES, "dataset")
    message = str(caught.value)
    assert f"unknown dataset {value!r}; did you mean {suggested!r}?" in message
    assert all(name in message for name in NAMES)


@pytest.mark.parametrize("value", ["", "???"])
def test_without_likeness_nothing_is_suggested(value):
    with pytest.raises(ValueError, match="valid: digits, digits_photo") as caught:
        nearest.choose(value, NAMES, "dataset")
    assert "did you mean" not in str(caught.value)


def test_choices_may_be_any_iterable():
    assert nearest.choose("b", {"a": 1, "b": 2}, "key") == "b"
    assert nearest.choose("b", iter("ab"), "key") == "b"
    with pytest.raises(ValueError, match=r"valid: \(none\)"):
        nearest.choose("b", (), "key")
