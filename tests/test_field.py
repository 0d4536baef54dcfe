import pandas as pd
import pytest

from benchmarks.report import field, published
from benchmarks.report.field import state_of_the_field


def rows_of(text: str, heading: str) -> dict[str, list[str]]:
    """Numbers in the first table of a section, by method, epochs and source."""
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = section.split("Where sources disagree")[0].splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    return {f"{of[0]}, {of[-2]}: {of[-1]}": of[1:-2] for of in cells[2:]}


@pytest.fixture(scope="module")
def text() -> str:
    return state_of_the_field()


def test_every_published_error_is_on_the_page(text: str) -> None:
    rows = published.all_published()
    rows = rows[rows["metric"].isin(field.ERRORS)]
    assert rows["value"].map(str).size > 1000
    assert [value for value in rows["printed"] if value not in text] == []


def test_every_source_is_named(text: str) -> None:
    assert field.SHORT.keys() == published.SOURCES.keys()
    used = published.all_published()["source"].unique()
    assert set(used) == set(published.SOURCES)
    assert all(published.SOURCES[name] in text for name in used)


def test_tables_that_print_the_same_are_one_row(text: str) -> None:
    found = rows_of(text, "Moving MNIST, 10 to 10 frames")
    assert found["TAU, not stated: TAU, Table 2, Table 6"] == [
        *("19.8", r"60.3\*", "0.957", "", "", "15.96")
    ]
    assert (
        found["PredRNN++, not stated: TAU, Table 2"][0] == "46.5"
    )  # which Table 6 prints otherwise
    assert found["PredRNN++, not stated: TAU, Table 6"][0] == "46.4"


def test_errors_printed_as_multiples_are_brought_to_one_scale(text: str) -> None:
    found = rows_of(text, "TaxiBJ, 4 to 4 frames")
    assert found["TAU, not stated: TAU, Table 3, Table 6"][0] == "0.344"
    assert "printed times 100" not in text


def test_the_lowest_error_comes_first(text: str) -> None:
    found = rows_of(text, "Moving MNIST, 10 to 10 frames")
    errors = [float(cells[0].rstrip("\\*")) for cells in found.values() if cells[0]]
    assert errors == sorted(errors)
    assert errors[0] == 11.7


def test_disagreements_and_conventions_are_told(text: str) -> None:
    assert r"| TAU | MSE | 15.69 (OpenSTL, 2,000); 19.8 (TAU, not stated);" in text
    assert "| TAU | MSE | 0.3108 (OpenSTL, 50); 0.344 (TAU, not stated) |" in text
    assert "- OpenSTL: The model zoo chose checkpoints on the test set" in text


def published_rows(*rows: tuple[str, str, int, str]) -> pd.DataFrame:
    names = ("source", "table", "dataset", "protocol", "method", "metric", "printed", "epochs")
    known = [(s, "T", "Films", "2->2", method, "MSE", p, e) for s, method, e, p in rows]
    return pd.DataFrame(known, columns=names).assign(uncertain=False)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ((published.ZOO, "TAU", 50, "0.34"), False),  # 0.344 rounded
        ((published.ZOO, "TAU", 50, "0.35"), True),
        ((published.ZOO, "TAU", 100, "0.35"), False),  # after other epochs
        ((published.ZOO, "SimVP", 50, "0.35"), False),
    ],
)
def test_what_differs_by_more_than_rounding_disagrees(
    monkeypatch: pytest.MonkeyPatch, other: tuple[str, str, int, str], told: bool
) -> None:
    rows = published_rows((published.PAPER, "TAU", 50, "0.344"), other)
    monkeypatch.setattr(field, "all_published", lambda: rows)
    assert ("Where sources disagree" in state_of_the_field()) is told
