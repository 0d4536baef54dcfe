"""A short random campaign; `python tests/campaign.py --seconds 3600` is a long one."""

from __future__ import annotations

import sys

import pytest
from campaign import KINDS, run_campaign

from benchmarks.data.cache import CACHE_VARIABLE


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_is_lost_in_a_short_campaign(monkeypatch, capsys):
    for name in (CACHE_VARIABLE, "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # the campaign sets them, and this sets them back
    status = run_campaign(0, list(KINDS), most=4)
    printed = capsys.readouterr().out
    assert status == 0 and "4 attempts, 4 survived, 0 lost something" in printed, printed
