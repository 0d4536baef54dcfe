"""A short random campaign; `python tests/campaign.py --seconds 3600` is a long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).with_name("campaign.py")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_is_lost_in_a_short_campaign():
    command = [sys.executable, str(CAMPAIGN), "--seconds", "1"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        cwd=CAMPAIGN.parent.parent,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert ", 0 lost something" in done.stdout
