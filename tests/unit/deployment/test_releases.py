"""The release machine over every status and action."""

from itertools import product

import pytest

from services.deployment.rules.releases import ReleaseAction, ReleaseStatus, advance
from shared.errors import IllegalTransition

ARROWS = {
    ("draft", "publish"): "published",
    ("draft", "abandon"): "abandoned",
    **{(status, "promote"): "promoted" for status in ("published", "promoted", "rolled_back")},
    **{(status, "roll_back"): "rolled_back" for status in ("published", "promoted", "rolled_back")},
    **{(status, "abandon"): "abandoned" for status in ("published", "promoted", "rolled_back")},
}


@pytest.mark.parametrize(("status", "action"), list(product(ReleaseStatus, ReleaseAction)))
def test_every_action_in_every_status(status: ReleaseStatus, action: ReleaseAction) -> None:
    expected = ARROWS.get((status, action))

    if expected is not None:
        assert advance(status, action, release="auth@1") == expected
        return

    with pytest.raises(IllegalTransition):
        advance(status, action, release="auth@1")
