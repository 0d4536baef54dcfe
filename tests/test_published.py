import pandas as pd
import pytest

from benchmarks.report.published import (
    CONVENTIONS,
    PAPER,
    SOURCES,
    ZOO,
    PublishedColumn,
    Value,
    conventions,
    lookup,
    published,
)

MSE = PublishedColumn("MSE", "Moving MNIST")


def test_table_6_is_complete_and_keeps_its_names() -> None:
    rows = published("Table 6")
    assert list(dict.fromkeys(rows["method"])) == [
        *("PredRNN", "PredRNN++", "MIM", "E3DLSTM", "SimVP"),
        *("Conv Baseline", "TAU w/o DDR", "TAU"),
    ]
    assert len(rows) == 8 * 3
    assert not rows["uncertain"].any()


@pytest.mark.parametrize(
    ("method", "mse", "macs", "taxibj"),
    [
        ("Conv Baseline", 58.9, 6.11, 43.5),
        ("TAU w/o DDR", 21.1, 15.96, 37.7),
        ("TAU", 19.8, 15.96, 34.4),
        ("SimVP", 23.8, 19.43, 41.4),
    ],
)
def test_ablation_values(method: str, mse: float, macs: float, taxibj: float) -> None:
    rows = published("Table 6")
    columns = [
        MSE,
        PublishedColumn("FLOPs_G", "Moving MNIST"),
        PublishedColumn("MSEx100", "TaxiBJ"),
    ]
    found = [lookup(rows, method, column) for column in columns]
    assert [value.value for value in found if value] == [mse, macs, taxibj]


def test_printed_digits_survive() -> None:
    assert lookup(published("Table 2"), "VPN", PublishedColumn("SSIM", "Moving MNIST")) == Value(
        0.87, "0.870", False
    )


def test_blank_cells_are_none() -> None:
    assert lookup(published("Table 2"), "VPN", PublishedColumn("MAE", "Moving MNIST")) is None


def test_inferred_columns_are_uncertain() -> None:
    maes = published("Table 2").query("metric == 'MAE'")
    psnrs = published("Table 4").query("metric == 'PSNR'")
    assert len(maes) == 9
    assert len(psnrs) == 10
    assert maes["uncertain"].all()
    assert psnrs["uncertain"].all()
    certain = published("Table 2").query("metric != 'MAE'")
    assert not certain["uncertain"].any()


def test_zoo_has_epochs() -> None:
    rows = published("MMNIST STL", ZOO)
    at_200 = lookup(rows, "TAU", MSE._replace(epochs=200))
    at_2000 = lookup(rows, "TAU", MSE._replace(epochs=2000))
    assert at_200 == Value(24.60, "24.60", False)
    assert at_2000 == Value(15.69, "15.69", False)


def test_ambiguous_lookups_ask() -> None:
    with pytest.raises(ValueError, match=r"epochs \(of \[200, 2000\]"):
        lookup(published("MMNIST STL", ZOO), "TAU", MSE)
    with pytest.raises(ValueError, match=r"10->20.*10->40"):
        lookup(published("Table 5"), "TAU", PublishedColumn("SSIM", "KTH"))


def test_protocol_chooses() -> None:
    rows = published("Table 5")
    values = [lookup(rows, "TAU", PublishedColumn("SSIM", "KTH", p)) for p in ("10->20", "10->40")]
    assert [value.printed for value in values if value] == ["0.911", "0.897"]


def test_errors_name_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'TAU w/o DDR'"):
        lookup(published("Table 6"), "TAU without DDR", MSE)
    with pytest.raises(ValueError, match="SSIM"):
        lookup(published("Table 6"), "TAU", PublishedColumn("SSIM", "Moving MNIST"))
    with pytest.raises(ValueError, match="Table 6"):
        published("Table 7")
    with pytest.raises(ValueError, match=ZOO):
        published("Table 6", "nobody")


def test_a_caller_cannot_change_the_numbers() -> None:
    rows = published("Table 6")
    rows["value"] = 0.0
    assert (published("Table 6")["value"] > 0).all()


def test_file_is_whole() -> None:
    tables = [published(f"Table {n}") for n in range(1, 7)]
    assert [len(table) for table in tables] == [29, 35, 24, 28, 62, 24]
    figure = published("Fig 8 / Sec 4.5")
    assert lookup(figure, "TAU", MSE._replace(epochs=50)) == Value(35.0, "35.0", False)
    key = ["dataset", "protocol", "method", "metric", "epochs"]
    for table in tables[1:]:
        assert not pd.DataFrame(table).duplicated(key).any()


def test_conventions_are_about_what_exists() -> None:
    for convention in CONVENTIONS:
        assert convention.source in SOURCES
        for table in convention.tables:
            assert convention.metric in set(published(table, convention.source)["metric"])


def test_conventions_follow_the_columns() -> None:
    texts = conventions(PAPER, "Table 6", {"MSE", "FLOPs_G"})
    assert len(texts) == 3
    assert any("wider" in text for text in texts) and any("clip the frames" in x for x in texts)
    assert conventions(PAPER, "Table 6", {"SSIM"}) == []
    assert any("wraps around" in text for text in conventions(PAPER, "Table 5", {"PSNR"}))
