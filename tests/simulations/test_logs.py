"""Reading a log: what is accepted reads the same in every form, what is not is named with its line and column."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.errors import InvalidInput
from simulations.logs.columns import Named
from simulations.logs.log import Log, read_log

Write = Callable[[str, bytes | str], Path]

HEAD = "user_id,variant,resolved\n"
GOOD = HEAD + "u1,A,1\nu2,B,0\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return to_file


def seen(log: Log) -> tuple[list[str], list[str], dict[str, list[float]]]:
    assert log.user is not None
    who = [log.user_ids[code] for code in log.user]
    return who, [log.variants[code] for code in log.variant], {k: v.tolist() for k, v in log.metrics.items()}


FORMS: list[tuple[str, bytes | str]] = [
    ("log.csv", GOOD),
    ("log.CSV", GOOD),
    ("bom.csv", b"\xef\xbb\xbf" + GOOD.encode()),
    ("crlf.csv", GOOD.replace("\n", "\r\n")),
    ("cr.csv", GOOD.replace("\n", "\r")),
    ("noend.csv", GOOD.rstrip("\n")),
    ("blank.csv", GOOD.replace("\nu2", "\n\n\nu2")),
    ("words.csv", GOOD.replace(",1\n", ",true\n").replace(",0\n", ",False\n")),
    ("floats.csv", GOOD.replace(",1\n", ", 1.0 \n").replace(",0\n", ",0e5\n")),
    ("index.csv", ",user_id,variant,resolved\n0,u1,A,1\n1,u2,B,0\n"),
    ("trailing.csv", "user_id,variant,resolved,\nu1,A,1,\nu2,B,0,\n"),
    ("names.csv", "User, Variant ,resolved\nu1,A,1\nu2,B,0\n"),
    ("order.csv", "resolved,variant,user_id\n1,A,u1\n0,B,u2\n"),
    ("log.csv.gz", gzip.compress(GOOD.encode(), mtime=0)),
    ("packed.csv", gzip.compress(GOOD.encode(), mtime=0)),
    ("two.csv.gz", b"".join(gzip.compress(half.encode(), mtime=0) for half in (GOOD[:30], GOOD[30:]))),
    ("log.jsonl", '{"user_id":"u1","variant":"A","resolved":1}\n{"user_id":"u2","variant":"B","resolved":false}\n'),
    ("log.ndjson", '{"resolved":true,"user_id":"u1","variant":"A"}\r\n\r\n{"user_id":"u2","variant":"B","resolved":0}'),
]


@pytest.mark.parametrize(("name", "content"), FORMS, ids=[form[0] for form in FORMS])
def test_a_log_reads_the_same_in_every_form(write: Write, name: str, content: bytes | str) -> None:
    log = read_log(write(name, content))

    assert seen(log) == (["u1", "u2"], ["A", "B"], {"resolved": [1.0, 0.0]})


def test_lines_are_those_of_the_file_also_after_a_quoted_newline(write: Write) -> None:
    log = read_log(write("log.csv", 'user_id,variant,text,y\nu1,A,"one\ntwo",1\nu2,B,"say ""hi""",0\n'))

    assert (log.lines.tolist(), list(log.metrics), list(log.texts)) == ([2, 4], ["y"], ["text"])


def test_users_may_be_whole_numbers_in_json(write: Write) -> None:
    log = read_log(write("log.jsonl", '{"user":7,"variant":1,"y":1}\n{"user":8,"variant":2,"y":2}\n'))

    assert seen(log) == (["7", "8"], ["1", "2"], {"y": [1.0, 2.0]})


def test_a_metric_that_begins_later_and_one_that_is_absent_are_empty_there(write: Write) -> None:
    rows = ['{"user_id":"u1","variant":"A"}\n'] * 5000 + ['{"user_id":"u2","variant":"B","y":3}\n']

    log = read_log(write("log.jsonl", "".join(rows)))

    assert log.metrics["y"][-1] == 3.0
    assert all(math.isnan(value) for value in log.metrics["y"][:-1])


TIMES = [
    ("2026-01-31T12:00:00Z", 1769860800.0),
    ("2026-01-31 12:00:00", 1769860800.0),
    ("2026-01-31T14:00:00.5+02:00", 1769860800.5),
    ("2026-01-31", 1769817600.0),
    ("1769860800", 1769860800.0),
    ("1769860800123", 1769860800.123),
]


@pytest.mark.parametrize(("text", "seconds"), TIMES)
def test_times_are_seconds_since_1970(write: Write, text: str, seconds: float) -> None:
    log = read_log(write("log.csv", f"user_id,variant,time,y\nu1,A,{text},1\nu2,B,{text},0\n"))

    assert log.time is not None
    assert log.time.tolist() == [seconds, seconds]


J = '{"user_id":"u1","variant":"A","y":1}\n'
P = "user_id,variant,y,propensity\nu1,A,1,"
T = "user_id,variant,y,time\nu1,A,1,"
FAULTS: list[tuple[str, bytes | str, str]] = [
    ("empty.csv", "", "line 1: received no names of columns"),
    ("header.csv", HEAD, "line 2: missing; at least one row"),
    ("empty.jsonl", "", "line 2: missing"),
    ("novariant.csv", "user_id,y\nu1,1\n", "line 1: no column says the variant; name it with --variant"),
    ("semicolons.csv", "user_id;variant;y\nu1;A;1\n", "(separate them by commas)"),
    ("twice.csv", "user_id,variant,variant\nu1,A,B\n", "line 1: received column 'variant' more than once"),
    ("short.csv", GOOD + "u3,A\n", "line 4: received 2 fields, allowed: 3, as in line 1"),
    ("long.csv", GOOD + "u3,A,1,\n", "line 4: received 4 fields, allowed: 3"),
    ("openquote.csv", HEAD + 'u1,A,"1\nu2,B,1\n', "is not CSV: unexpected end of data"),
    ("text.csv", GOOD + "u3,B,x\n", "line 4, column 'resolved': received 'x', allowed: a number from -1e15 to 1e15"),
    ("nan.csv", GOOD + "u3,B,nan\n", "line 4, column 'resolved': received 'nan'"),
    ("infinite.csv", GOOD + "u3,B,inf\n", "line 4, column 'resolved': received 'inf'"),
    ("overflow.csv", GOOD + "u3,B,1e400\n", "received '1e400'"),
    ("huge.csv", GOOD + "u3,B,1e16\n", "received '1e16'"),
    ("comma.csv", GOOD + 'u3,B,"1,5"\n', "received '1,5'"),
    ("underscore.csv", GOOD + "u3,B,1_000\n", "received '1_000'"),
    ("nouser.csv", GOOD + ",A,1\n", "line 4, column 'user_id': received an empty cell, allowed: a name of 1 to 200"),
    ("longuser.csv", GOOD + "u" * 201 + ",A,1\n", "line 4, column 'user_id': received 'uuu"),
    ("control.csv", GOOD + "u\x00,A,1\n", r"received 'u\x00'"),
    ("novalue.csv", GOOD + "u3,,1\n", "line 4, column 'variant': received an empty cell"),
    ("onevariant.csv", HEAD + "u1,A,1\nu2,A,0\n", "column 'variant': received only 'A', allowed: rows of two variants"),
    ("latin.csv", GOOD.encode() + b"u\xe9,A,1\n", "is not UTF-8"),
    ("utf16.csv", GOOD.encode("utf-16"), "is not UTF-8"),
    ("bytes.csv", bytes(range(256)), "is not UTF-8"),
    ("notgzip.csv.gz", GOOD, "is not gzip although its name ends with .gz"),
    ("cut.csv.gz", gzip.compress(GOOD.encode() * 200, mtime=0)[:70], "is damaged gzip"),
    ("garbage.csv.gz", gzip.compress(GOOD.encode(), mtime=0) + b"garbage", "is damaged gzip"),
    ("log.txt", GOOD, "received a name that ends with '.txt', allowed: .csv, .jsonl, .ndjson, with .gz or not"),
    ("log", GOOD, "received a name that ends with ''"),
    ("zero.csv", f"{P}0\n", "line 2, column 'propensity': received '0', allowed: a probability above 0 and at most 1"),
    ("aboveone.csv", f"{P}1.01\n", "received '1.01', allowed: a probability above 0"),
    ("nochance.csv", f"{P}often\n", "line 2, column 'propensity': received 'often'"),
    ("negative.csv", "variant,y,propensity.A,propensity.B\nA,1,-0.1,1.1\nB,1,.5,.5\n", "a probability from 0 to 1"),
    ("when.csv", f"{T}yesterday\n", "line 2, column 'time': received 'yesterday', allowed: a time of ISO 8601"),
    ("never.csv", f"{T}\n", "line 2, column 'time': received an empty cell"),
    ("mixed.csv", f"{T}1769860800\nu2,B,0,1769860800123\n", "line 3, column 'time': received '1769860800123'"),
    ("crash.csv", "variant,y,failed\nA,1,2\nB,1,0\n", "column 'failed': received '2', allowed: 0, 1, true, false"),
    ("again.csv", "user_id,variant,y,request_id\nu1,A,1,r\nu1,A,0,r\nu2,B,1,q\n", "received 'r' again (line 2)"),
    ("notjson.jsonl", f"{J}not json\n", "line 2: is not JSON: Expecting value"),
    ("array.jsonl", f"{J}[1]\n", "line 2: received [1], allowed: an object"),
    ("scalar.jsonl", f"{J}3\n", "line 2: received 3, allowed: an object"),
    (
        "twokeys.jsonl",
        '{"user_id":"u1","user_id":"u2","variant":"A"}\n',
        "line 1: is not JSON: duplicate key 'user_id'",
    ),
    ("deep.jsonl", J + "[" * 100_000 + "\n", "line 2: is not JSON: nested too deeply"),
    ("digits.jsonl", f"{J}{'1' * 5000}\n", "line 2: is not JSON: a number of thousands of digits"),
    ("nan.jsonl", f'{J}{{"user_id":"u2","variant":"B","y":NaN}}\n', "line 2, column 'y': received 'NaN'"),
    ("infinite.jsonl", f'{J}{{"user_id":"u2","variant":"B","y":1e999}}\n', "line 2, column 'y': received inf"),
    ("huge.jsonl", f'{J}{{"user_id":"u2","variant":"B","y":1e16}}\n', "line 2, column 'y': received 1e+16"),
    ("numbertext.jsonl", f'{J}{{"user_id":"u2","variant":"B","y":"1"}}\n', "line 2, column 'y': received '1'"),
    ("nested.jsonl", f'{J}{{"user_id":"u2","variant":"B","y":{{"a":1}}}}\n', "received {'a': 1}"),
    ("bool.jsonl", f'{J}{{"user_id":true,"variant":"B","y":1}}\n', "line 2, column 'user_id': received True"),
    ("surrogate.jsonl", f'{J}{{"user_id":"\\ud800","variant":"B","y":1}}\n', "line 2, column 'user_id'"),
    ("later.jsonl", J * 5000 + '{"user_id":"u2","variant":"B","y":1,"epoch":3}\n', "column 'epoch': begins only after"),
]


@pytest.mark.parametrize(("name", "content", "message"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_what_is_wrong_is_named_with_line_and_column(
    write: Write, name: str, content: bytes | str, message: str
) -> None:
    path = write(name, content)

    with pytest.raises(InvalidInput) as refused:
        read_log(path)

    assert message in str(refused.value)
    assert all(line.startswith(f"{path}: ") and line.count(str(path)) == 1 for line in str(refused.value).split("\n"))


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()

    with pytest.raises(InvalidInput, match="is a directory; name a file in it"):
        read_log(tmp_path / "folder.csv")
    with pytest.raises(InvalidInput, match="no such file; check the path"):
        read_log(tmp_path / "nothing.csv")


def test_twenty_faults_are_named_in_the_order_of_lines_and_the_rest_is_counted(write: Write) -> None:
    path = write("log.csv", GOOD + "".join(f"u{i},B,x{i}\n,A,1\n" for i in range(25)))

    with pytest.raises(InvalidInput) as refused:
        read_log(path)

    lines = [int(p.field.split("line ")[1].split(",")[0]) for p in refused.value.problems[:-1]]
    assert lines == list(range(4, 24))
    assert refused.value.problems[-1].message == "and 30 more faults"


def test_twenty_faults_of_one_column_are_named_and_the_rest_is_counted(write: Write) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_log(write("log.csv", GOOD + ",A,1\n" * 22))

    assert len(refused.value.problems) == 21
    assert refused.value.problems[-1].message == "and 2 more faults"


def test_a_request_may_bring_each_metric_in_a_row_of_its_own(write: Write) -> None:
    log = read_log(write("log.csv", "variant,y,z,request_id\nA,1,,r\nA,,2,r\nB,1,2,q\n"))

    assert log.n_rows == 3


def test_a_column_with_a_wrong_cell_is_left_out_with_the_reason_beside_another_and_a_fault_if_asked_for(
    write: Write,
) -> None:
    path = write("log.csv", "variant,y,score\nA,1,3\nB,0,4\nB,0,none\n")

    log = read_log(path)

    assert list(log.metrics) == ["y"]
    assert log.unread == {"score": "line 4 has 'none', which is no number"}
    with pytest.raises(InvalidInput, match="line 4, column 'score': received 'none'"):
        read_log(path, metrics=["score"])


def test_a_variant_that_is_not_declared_is_refused(write: Write) -> None:
    with pytest.raises(InvalidInput, match="line 3, column 'variant': received 'B', allowed: one of 'A', 'C'"):
        read_log(write("log.csv", GOOD), variants=["A", "C"])


def test_columns_are_those_that_options_name(write: Write) -> None:
    path = write("log.csv", "who,what,variant,when,y\nu1,A,x,2026-01-31,1\nu2,B,x,2026-01-31,0\n")

    log = read_log(path, Named(user="who", variant="what", time="when"))

    assert seen(log)[:2] == (["u1", "u2"], ["A", "B"])
    with pytest.raises(InvalidInput, match="--user: there is no column 'whom'; did you mean 'who'"):
        read_log(path, Named(user="whom", variant="what"))


def test_more_variants_than_an_experiment_has_are_probably_another_column(write: Write) -> None:
    content = HEAD + "".join(f"u{i},v{i},1\n" for i in range(60))

    with pytest.raises(InvalidInput, match="received more than 50 variants, allowed: 2 to 50; see --variant"):
        read_log(write("log.csv", content))


def test_the_bytes_that_were_read_are_told(write: Write) -> None:
    path, told = write("log.csv", HEAD + "u1,A,1\nu2,B,0\n" * 10_000), list[int]()

    read_log(path, watch=told.append)

    assert len(told) > 3
    assert sum(told) == path.stat().st_size


@given(st.binary(max_size=60))
def test_whatever_bytes_a_file_has_it_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, tail: bytes) -> None:
    for name in ("log.csv", "log.jsonl", "log.csv.gz"):
        path = tmp_path_factory.mktemp("bytes") / name
        path.write_bytes(GOOD.encode() + tail if name == "log.csv" else tail)

        with suppress(InvalidInput):
            assert read_log(path).n_rows >= 2
