"""Table 1 of the TAU paper: the data sets, as they are found beside what the paper counts."""

from __future__ import annotations

from functools import partial

from benchmarks.data import (
    KTH,
    KittiCaltech,
    KittiRawCaltech,
    KTHAction,
    MovingMNIST,
    TaxiBJ,
    TaxiBJReleased,
)
from benchmarks.experiment.spec import DatasetEntry, DatasetTable

SUITE = DatasetTable(
    name="datasets",
    title="Data sets (Table 1)",
    entries=(
        DatasetEntry("Moving MNIST", MovingMNIST, "MMNIST", 10),
        DatasetEntry("TaxiBJ", TaxiBJ, "TrafficBJ", 4),
        DatasetEntry("TaxiBJ, as released", TaxiBJReleased, "TrafficBJ", 4),
        DatasetEntry("KTH, 10 to 20", KTH, "KTH", 20),
        DatasetEntry("KTH, 10 to 40", partial(KTH, future=40), "KTH", 40),
        DatasetEntry("KTH, curated, 10 to 20", KTHAction, "KTH", 20),
        DatasetEntry("KTH, curated, 10 to 40", partial(KTHAction, future=40), "KTH", 40),
        DatasetEntry("KITTI to Caltech", KittiCaltech, "Caltech", 1),
        DatasetEntry("KITTI raw to Caltech", KittiRawCaltech, "Caltech", 1),
    ),
    published="Table 1",
    notes=(
        "Train counts the sequences that are trained on; those held out for validation stand "
        "beside them, and the paper has none.",
        "Moving MNIST is generated: an epoch counts 10,000 fresh training sequences.",
    ),
)
