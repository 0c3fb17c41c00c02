"""Questions from an object store, against an S3 that the test starts on this machine."""

from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from codemmlu.dataset import QuestionStream
from codemmlu.errors import UserError
from codemmlu.recipe import QuestionSettings
from codemmlu.schema import Question
from tests.support.asking import parquet


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """HOST:PORT of an S3 with three objects in the bucket `quiz`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys)
    client.create_bucket(Bucket="quiz")
    csv = "task_id,question,choices,answer\nc1,\"One\ntwo?\",\"['é', 'b']\",B\nc2,Q,[],\n"
    client.put_object(Bucket="quiz", Key="in/a.csv", Body=csv.encode())
    row = {"task_id": "p1", "question": "Q", "choices": ["a", "b"], "answer": "A"}
    client.put_object(Bucket="quiz", Key="in/b.parquet", Body=parquet([row, {**row, "task_id": "p2"}]))
    client.put_object(Bucket="quiz", Key="in/deep/c.csv", Body=csv.replace("c1", "d1").encode())
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def at(endpoint: str, path: str) -> QuestionSettings:
    return QuestionSettings(source=f"s3://{path}?endpoint_override={endpoint}&scheme=http&region=us-east-1")


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        ("quiz/in/a.csv", [("c1", "s3://quiz/in/a.csv", 2), ("c2", "s3://quiz/in/a.csv", 4)]),
        ("quiz/in/b.parquet", [("p1", "s3://quiz/in/b.parquet", 1), ("p2", "s3://quiz/in/b.parquet", 2)]),
        ("quiz/in/?.par*", [("p1", "s3://quiz/in/b.parquet", 1), ("p2", "s3://quiz/in/b.parquet", 2)]),
        ("quiz/in/*.csv", [("c1", "s3://quiz/in/a.csv", 2), ("c2", "s3://quiz/in/a.csv", 4)]),
        ("quiz/*/deep/*.csv", [("d1", "s3://quiz/in/deep/c.csv", 2), ("c2", "s3://quiz/in/deep/c.csv", 4)]),
        (
            "quiz/in/",
            [
                ("c1", "s3://quiz/in/a.csv", 2),
                ("c2", "s3://quiz/in/a.csv", 4),
                ("p1", "s3://quiz/in/b.parquet", 1),
                ("p2", "s3://quiz/in/b.parquet", 2),
            ],
        ),
    ],
)
def test_objects_are_read(endpoint: str, path: str, rows: list[tuple[str, str, int]]) -> None:
    read = list(QuestionStream(at(endpoint, path)).rows())
    assert [(row.task_id, row.file, row.line) for row in read] == rows
    if isinstance(read[0], Question) and read[0].task_id == "c1":
        assert (read[0].question, read[0].choices, read[0].answer) == ("One\ntwo?", ("é", "b"), "B")


@pytest.mark.parametrize("path", ["nobody/a.csv", "nobody/*.csv", "nobody", "quiz/in/none.csv", "quiz/out/*.csv"])
def test_an_object_that_is_not_there_is_an_error(endpoint: str, path: str) -> None:
    with pytest.raises(UserError) as caught:
        list(QuestionStream(at(endpoint, path)).rows())
    message = str(caught.value)
    assert message.startswith(f"questions.source: no file at s3://{path}?")
    assert len(message.splitlines()) == 1
