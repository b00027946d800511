"""What can go wrong in a user's hands: one clear message, the right exit code, and nothing lost."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Shop, plain_environment


def said(shop: Shop, *arguments: str, code: int) -> str:
    """What the command said on stderr."""
    return shop.mlops(*arguments, code=code).stderr


def test_no_project(tmp_path: Path) -> None:
    """Outside a project every command says so, and how to begin."""
    text = said(Shop(tmp_path), "train", code=2)
    assert "no project in" in text
    assert "mlops init" in text


def test_broken_toml(shop: Shop) -> None:
    """A syntax error in mlops.toml names the line."""
    (shop.root / "mlops.toml").write_text('[project]\nname = "a\n')
    assert "line 2" in said(shop, "train", code=2)


def test_unknown_key(shop: Shop) -> None:
    """An unknown key names its neighbour."""
    (shop.root / "mlops.toml").write_text("[serve]\nprot = 1\n")
    assert "did you mean 'port'?" in said(shop, "status", code=2)


def test_syntax_error_in_the_pipeline(shop: Shop) -> None:
    """File and line, no traceback of ours."""
    shop.edit("pipeline.py", "ROUNDS = 30", "ROUNDS = = 30")
    text = said(shop, "train", code=2)
    assert "pipeline.py" in text
    assert "mlops_local" not in text.replace("import mlops_local as mlops", "")


def test_exception_at_import(shop: Shop) -> None:
    """The user's own traceback, ours cut off."""
    shop.edit("pipeline.py", "ROUNDS = 30", 'ROUNDS = int("many")')
    text = said(shop, "train", code=2)
    assert 'ROUNDS = int("many")' in text
    assert "invalid literal for int()" in text
    assert "worker" not in text


def test_exception_in_a_step(shop: Shop) -> None:
    """The step is named with the user's traceback, the run is failed, what was finished is reused next time."""
    shop.edit("pipeline.py", "    return lgb.train(", "    assert leaves > 100, 'too few leaves'\n    return lgb.train(")
    text = said(shop, "train", code=1)
    assert "step gbm failed" in text
    assert "too few leaves" in text
    assert "mlops_local/worker" not in text
    runs = shop.json("runs")["items"]
    assert [run["state"] for run in runs] == ["failed"]
    shop.edit("pipeline.py", "    assert leaves > 100, 'too few leaves'\n", "")
    result = shop.json("train")
    assert result["ran"] == ["gbm", "gbm.evaluate"]


def test_a_step_that_dies(shop: Shop) -> None:
    """A segmentation fault fails the step by name; the command lives."""
    shop.edit(
        "pipeline.py",
        "    return lgb.train(",
        "    import os, signal; os.kill(os.getpid(), signal.SIGSEGV)\n    return lgb.train(",
    )
    text = said(shop, "train", code=1)
    assert "step gbm failed" in text
    assert "SIGSEGV" in text


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("def means(train: pl.DataFrame)", "def means(train: pl.DataFrame, later: dict[str, int])", "later"),
        ("-> dict[str, float]:", "-> set[str]:", "set"),
        ("@mlops.step\ndef means(train: pl.DataFrame)", "@mlops.step\ndef means(valid_means: pl.DataFrame)", "valid_means"),
    ],
)
def test_a_graph_that_cannot_be(shop: Shop, old: str, new: str, expected: str) -> None:
    """An input nobody makes, a set as return annotation: refused before anything runs, with file and line."""
    shop.edit("pipeline.py", old, new)
    text = said(shop, "train", code=2)
    assert expected in text
    assert "pipeline.py:" in text
    assert shop.json("runs")["items"] == []


def test_a_cycle(shop: Shop) -> None:
    """Steps that need each other are named."""
    with (shop.root / "pipeline.py").open("a") as file:
        file.write(
            "\n@mlops.step\ndef hen(egg: int) -> int:\n    return egg\n"
            "\n@mlops.step\ndef egg(hen: int) -> int:\n    return hen\n"
        )
    text = said(shop, "train", code=2)
    assert "hen" in text
    assert "egg" in text


def test_a_transform_that_is_not_row_wise(shop: Shop) -> None:
    """A transform that looks at other rows would answer differently when serving: refused, with the column's name."""
    shop.edit(
        "pipeline.py", 'minutes=pl.col("minutes") - means["minutes"]', 'minutes=pl.col("minutes") - pl.col("minutes").mean()'
    )
    text = said(shop, "train", code=1)
    assert "minutes" in text
    assert "row" in text


def test_a_source_without_files(shop: Shop) -> None:
    """The pattern is named."""
    shop.edit("pipeline.py", '"data/visits-*.parquet"', '"date/visits-*.parquet"')
    assert "date/visits-*.parquet" in said(shop, "train", code=2)


def test_a_corrupt_parquet(shop: Shop) -> None:
    """The file is named."""
    path = shop.root / "data" / "visits-1.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    assert "visits-1.parquet" in said(shop, "train", code=2)


def test_a_ragged_csv(shop: Shop) -> None:
    """File and line are named."""
    (shop.root / "data" / "visits-1.parquet").unlink()
    (shop.root / "data" / "visits-1.csv").write_text(
        "id,day,pages,minutes,device,spent\n1,2026-05-01,3,4.0,mobile,0\n2,2026-05-01,3\n3,x,3,4,m,0,9,9\n"
    )
    shop.edit("pipeline.py", '"data/visits-*.parquet"', '"data/visits-*.csv"')
    text = said(shop, "train", code=2)
    assert "visits-1.csv" in text
    assert "line" in text


def test_a_label_that_does_not_exist(shop: Shop) -> None:
    """The column is named."""
    shop.edit("pipeline.py", 'label=pl.col("spent") > 0', 'label=pl.col("spend") > 0')
    assert "spend" in said(shop, "train", code=1)


def test_a_metric_that_is_no_number(shop: Shop) -> None:
    """Evaluation rows of one class have no AUC: the version never passes and never serves."""
    shop.edit(
        "pipeline.py",
        '        rows.filter(pl.col("day").is_in(list(last))),',
        '        rows.filter(pl.col("day").is_in(list(last)) & (pl.col("spent") > 0)),',
    )
    shop.mlops("train", code=None)
    assert all(view["aliases"] == [] for view in shop.json("model", "ls")["items"])


def test_disk_full(shop: Shop) -> None:
    """A disk that takes nothing more ends the command with one message; afterwards everything works again."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "from mlops_local.cli.main import main\n"
        "sys.argv = ['mlops', 'train']\n"
        "main()\n"
    )
    command, core = [sys.executable, "-c", code], plain_environment()
    done = subprocess.run(command, cwd=shop.root, env=core, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in {1, 2}, done.stderr
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr
    shop.mlops("train")
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_store_held_by_a_foreign_client(trained: Shop) -> None:
    """A DuckDB shell that holds the file is named with its pid; exit 5 after --wait."""
    trained.mlops("runs")
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import duckdb, sys, time; c = duckdb.connect(sys.argv[1]); print('open', flush=True); time.sleep(60)",
            str(trained.root / ".mlops" / "project.duckdb"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        text = said(trained, "sql", "SELECT 1 AS one", "--wait", "1", code=5)
        assert str(holder.pid) in text
    finally:
        holder.kill()
        holder.wait()
        assert holder.stdout is not None
        holder.stdout.close()
    trained.mlops("sql", "SELECT 1 AS one")


def test_a_newer_store(trained: Shop) -> None:
    """A store of a newer format is refused with the way out, and not touched."""
    config = trained.root / ".mlops" / "config"
    text = config.read_text()
    config.write_text(text.replace('"format": 1', '"format": 99'))
    assert "newer version" in said(trained, "runs", code=6)
    config.write_text(text)


def test_secrets_are_not_stored(trained: Shop) -> None:
    """A secret in the environment or on the command line is nowhere in the store."""
    secret = "hunter2-very-secret-value"
    trained.mlops(
        "run", sys.executable, "-c", "print(1)", "--api-key", secret, MLOPS_API_TOKEN=secret, AWS_SECRET_ACCESS_KEY=secret
    )
    found = [path for path in (trained.root / ".mlops").rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert found == []


def test_interrupted(shop: Shop) -> None:
    """^C ends the run as cancelled with 130, and no child is left."""
    shop.edit("pipeline.py", "    return lgb.train(", "    import time; time.sleep(60)\n    return lgb.train(")
    process = subprocess.Popen(
        [sys.executable, "-m", "mlops_local", "train"],
        cwd=shop.root,
        env=plain_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    logs = shop.root / ".mlops" / "logs"
    deadline = time.monotonic() + 60
    while not list(logs.glob("*/gbm.log")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert [run["state"] for run in shop.json("runs")["items"]] == ["cancelled"]
    left = subprocess.run(["pgrep", "-g", str(process.pid)], capture_output=True, text=True, check=False)
    assert left.stdout == ""


def test_killed(shop: Shop) -> None:
    """kill -9 of a training: the run is `crashed`, all that was logged is there, and training goes on from what was done."""
    shop.edit(
        "pipeline.py",
        "    return lgb.train(",
        "    import time\n    for i in range(500):\n        mlops.log(i, loss=1 / (i + 1))\n"
        "    time.sleep(60)\n    return lgb.train(",
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "mlops_local", "train"],
        cwd=shop.root,
        env=plain_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    journal = shop.root / ".mlops" / "journal"
    while sum(path.read_text().count('"loss"') for path in journal.glob("*.metric.*")) < 500 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while shop.json("runs")["items"][0]["state"] != "crashed" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert shop.json("runs")["items"][0]["state"] == "crashed"
    assert shop.json("sql", "SELECT count(*) AS points FROM metric WHERE key = 'loss'")["items"] == [{"points": 500}]
    shop.edit("pipeline.py", "    time.sleep(60)\n", "")
    result = shop.json("train")
    assert result["ran"] == ["gbm", "gbm.evaluate"]


def test_port_taken(trained: Shop) -> None:
    """A taken port is an error that says what to pass."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        text = said(trained, "serve", "--port", str(port), code=2)
    assert str(port) in text
    assert "--port" in text


def test_a_flipped_byte(trained: Shop) -> None:
    """A bundle with one flipped byte is refused by server and loader alike."""
    version = trained.json("model", "show", "@champion")["version"]
    stored = version["bundle"]["model.onnx"]
    path = next(
        path for path in (trained.root / ".mlops" / "objects").rglob("*") if path.is_file() and stored.endswith(path.name[-20:])
    )
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(data))
    assert "is not what was written" in said(trained, "serve", "--port", "0", code=6)
    done = subprocess.run(
        [sys.executable, "-c", "import mlops_local as m; m.load_model()"],
        cwd=trained.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "model.onnx" in done.stderr
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_hostile_sql(trained: Shop) -> None:
    """`sql` is one SELECT: it cannot write, read files or change settings."""
    for text in (
        "DROP TABLE store.run",
        "COPY run TO 'x.csv'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT 1; SELECT 2",
        "SET threads = 1",
    ):
        trained.mlops("sql", text, code=2)
    assert not (trained.root / "x.csv").exists()
