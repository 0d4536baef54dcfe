"""Table 1 of the TAU paper: the data sets, as they are found beside what the paper counts."""

from __future__ import annotations

from benchmarks.experiment.spec import Survey, SurveyRow

SUITE = Survey(
    name="datasets",
    title="Data sets (Table 1)",
    rows=(
        SurveyRow("Moving MNIST", "moving-mnist", {}, "MMNIST", 10),
        SurveyRow("TrafficBJ", "trafficbj", {}, "TrafficBJ", 4),
        SurveyRow("TrafficBJ, as released", "trafficbj-npz", {}, "TrafficBJ", 4),
        SurveyRow("KTH, 10 to 20", "kth", {}, "KTH", 20),
        SurveyRow("KTH, 10 to 40", "kth", {"future": 40}, "KTH", 40),
        SurveyRow("KTH, curated, 10 to 20", "kth-action", {}, "KTH", 20),
        SurveyRow("KTH, curated, 10 to 40", "kth-action", {"future": 40}, "KTH", 40),
        SurveyRow("KITTI to Caltech", "kitti-caltech", {}, "Caltech", 1),
        SurveyRow("KITTI raw to Caltech", "kitti-raw-caltech", {}, "Caltech", 1),
    ),
    published="Table 1",
    notes=(
        "Train counts the sequences that are trained on; those held out for validation stand "
        "beside them, and the paper has none.",
        "Moving MNIST is generated: an epoch counts 10,000 fresh training sequences.",
    ),
)
