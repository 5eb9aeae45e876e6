from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from bandit.errors import InvalidInput
from simulations.recorded import RecordedTest, parse_records, read_records

HEADER = "test_id,arm,impressions,clicks\n"
GOOD = HEADER + "t1,0,100,5\nt2,x,10,0\nt1,1,90,7\n"
TESTS = [RecordedTest("t1", (100, 90), (5, 7)), RecordedTest("t2", (10,), (0,))]


def test_rows_are_gathered_by_test_in_the_order_of_the_file() -> None:
    assert parse_records(GOOD) == TESTS


def test_other_columns_blank_lines_quotes_and_order_do_not_matter() -> None:
    text = 'clicks,note,arm,test_id,impressions\r\n5,"a, b",0,t1,100\r\n\r\n7,,1,t1,90\r\n0,,x,t2,10\r\n'

    assert parse_records(text) == TESTS


FAULTS = [
    ("", "line 1", "no columns 'test_id'"),
    (HEADER, "line 2", "missing"),
    ("test_id,arm,impressions\nt,0,1\n", "line 1", "no columns 'clicks'"),
    ("test_id,arm,impressions,clicks,clicks\n", "line 1", "2 columns 'clicks'"),
    (HEADER + "t,0,10\n", "line 2", "received 3 fields"),
    (HEADER + "t,0,10,1\nt,1,10,-1\n", "line 3", "clicks: received '-1'"),
    (HEADER + "t,0,1.5,1\n", "line 2", "impressions: received '1.5'"),
    (HEADER + "t,0,1e3,1\n", "line 2", "a whole number"),
    (HEADER + "t,0,10,NaN\n", "line 2", "clicks: received 'NaN'"),
    (HEADER + "t,0,10,\n", "line 2", "clicks: received ''"),
    (HEADER + "t,0,1_0,1\n", "line 2", "impressions: received '1_0'"),
    (HEADER + f"t,0,{'9' * 30},1\n", "line 2", "impressions"),
    (HEADER + "t,0,10,11\n", "line 2", "at most the impressions, 10"),
    (HEADER + "t,0,0,0\n", "line 2", "leave out an arm"),
    (HEADER + ",0,10,1\n", "line 2", "test_id is empty"),
    (HEADER + "t, ,10,1\n", "line 2", "arm is empty"),
    (HEADER + "t,0,10,1\nu,0,10,1\nt,0,10,1\n", "line 4", "(line 2)"),
    (HEADER + 't,0,10,"1\n', "line 2", "is not CSV"),
]


@pytest.mark.parametrize(("text", "line", "message"), FAULTS, ids=[fault[2] for fault in FAULTS])
def test_a_fault_is_named_with_its_line_and_cure(text: str, line: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_records(text)

    problem = caught.value.problems[-1] if "columns 'clicks'" in message else caught.value.problems[0]
    assert problem.field == line
    assert message in problem.message


def test_many_faults_are_named_up_to_a_number() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_records(HEADER + "t,0,0,0\n" * 50)

    assert len(caught.value.problems) == 21
    assert caught.value.problems[-1].message == "and 30 more lines"


@pytest.mark.parametrize("name", ["tests.csv", "tests.csv.gz", "no-suffix"])
def test_files_may_be_plain_or_gzip_with_or_without_a_byte_order_mark(tmp_path: Path, name: str) -> None:
    plain = ("\ufeff" + GOOD).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(plain) if "gz" in name else plain)

    assert read_records(path) == TESTS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv.gz", GOOD.encode(), "is not gzip"),
        ("a.csv.gz", gzip.compress(GOOD.encode(), mtime=0)[:-9], "damaged gzip"),
        ("a.csv", b"test_id\xff", "is not UTF-8"),
        ("a.csv", (HEADER + "t,0,0,0\n").encode(), "a.csv: line 2: impressions"),
        ("missing/a.csv", None, "no such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(InvalidInput, match=message):
        read_records(path)
