"""Tell the whole loop on real data: a copy of the flights sample in demo/, the `mlops` command, git and HTTP, nothing else.

Each chapter checks the promise it tells of and the script ends with 1 when one is not kept. It makes demo/ anew, but only if
an earlier demo made it; it ends the server it started, and nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MARK = ".made-by-make-demo"
SWAP_S = 10.0
EVENING = {"hour": 17, "sched_dep_time": 1730, "sched_arr_time": 2010}
STORM = {"humid": 97.0, "wind_speed": 25.0, "wind_gust": 40.0, "precip": 0.4, "precip_6h": 1.5, "visib": 0.5, "visib_6h": 0.25}


class NotKept(Exception):
    """A promise of the story was not kept."""


def promise(kept: bool, text: str) -> None:
    """Say that a promise was checked, or end the story."""
    if not kept:
        raise NotKept(text)
    print(f"   ✓ {text}")


def say(text: str) -> None:
    """Narrate."""
    print(f"   {text}", flush=True)


class Workplace:
    """The folder of the story and the commands run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        beside = Path(sys.executable).with_name("mlops")
        self.command = [str(beside)] if beside.exists() else [sys.executable, "-m", "mlops_local"]
        own = ("MLOPS_", "GIT_")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        who = {"NAME": "mlops demo", "EMAIL": "demo@example.invalid"}
        self.environment |= {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}

    def mlops(self, *words: str, expect: int = 0, shown: bool = True) -> str:
        """Run `mlops` and show what it says line by line as it says it; return its stdout and stderr together."""
        return self._run([*self.command, *words], ["mlops", *words], expect=expect, shown=shown)

    def git(self, *words: str, expect: int | None = 0, shown: bool = True) -> str:
        """Run git likewise; `expect=None` takes any failure, and only a failure."""
        return self._run(["git", *words], ["git", *words], expect=expect, shown=shown)

    def _run(self, command: Sequence[str], words: Sequence[str], *, expect: int | None, shown: bool) -> str:
        if shown:
            print(f"   $ {shlex.join(words)}", flush=True)
        said = []
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        with subprocess.Popen(
            command, cwd=self.folder, env=self.environment, text=True, errors="replace", **options
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                said.append(line)
                if shown:
                    print(f"     {line.rstrip()}", flush=True)
        text = "".join(said)
        if process.returncode != expect and (expect is not None or process.returncode == 0):
            if not shown:
                print(text)
            raise NotKept(f"`{shlex.join(words)}` ended with {process.returncode}")
        return text

    def answer(self, *words: str) -> Any:
        """Run `mlops ... --json` quietly and return what it answers."""
        words = (*words, "--json")
        done = subprocess.run(
            [*self.command, *words, "--json"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise NotKept(f"`mlops {shlex.join(words)}` ended with {done.returncode}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def edit(self, name: str, old: str, new: str) -> None:
        """Change one place of a file, as an editor would."""
        file = self.folder / name
        text = file.read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise NotKept(f"{name} no longer has one {old!r} to edit")
        file.write_text(text.replace(old, new), encoding="utf-8")
        for sign, part in (("-", old), ("+", new)):
            for line in part.strip("\n").splitlines():
                say(f"  {name}  {sign} {line.strip()}")

    def runs(self) -> list[str]:
        """Ids of the runs, newest first."""
        return [item["id"] for item in self.answer("runs")["items"]]

    def champion(self) -> dict[str, Any]:
        """The champion's version as `mlops model show` tells it."""
        version: dict[str, Any] = self.answer("model", "show", "@champion")["version"]
        return version


class Server:
    """`mlops serve`, as a process of ours."""

    def __init__(self, place: Workplace) -> None:
        print("   $ mlops serve", flush=True)
        self.process = subprocess.Popen(
            [*place.command, "serve", "--port", "0"],
            cwd=place.folder,
            env=place.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        if not self._ready.wait(30) or self.process.poll() is not None:
            raise NotKept("the server did not start: " + " | ".join(self.said))
        for line in self.said:
            print(f"     {line if len(line) < 160 else line[:157] + '...'}")
        asked = next(line for line in self.said if line.startswith("ask it: "))
        words = shlex.split(asked.removeprefix("ask it: "))
        self.address = next(word for word in words if word.startswith("http://")).removeprefix("http://").partition("/")[0]
        self.row: dict[str, Any] = json.loads(words[-1])

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.rstrip())
            if line.startswith("stop:"):
                self._ready.set()
        self._ready.set()

    def ask(self, row: dict[str, Any]) -> dict[str, Any]:
        """One question over HTTP."""
        return _post(http.client.HTTPConnection(self.address, timeout=10), row)[1]

    def about(self, model: str) -> dict[str, Any]:
        """What the server says of the model it serves."""
        line = http.client.HTTPConnection(self.address, timeout=10)
        line.request("GET", f"/v1/models/{model}")
        found: dict[str, Any] = json.loads(line.getresponse().read())
        return found

    def stop(self) -> None:
        """End the process that was started here."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._thread.join(5)
        if self.process.stderr is not None:
            self.process.stderr.close()


class Client:
    """Somebody who asks the server without a pause, and remembers every answer."""

    def __init__(self, server: Server) -> None:
        self.address, self.row = server.address, server.row
        self.failures: list[str] = []
        self.versions: dict[int, int] = {}
        self.longest_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    @property
    def total(self) -> int:
        """How many requests were answered or failed."""
        return sum(self.versions.values()) + len(self.failures)

    def _ask(self) -> None:
        line = http.client.HTTPConnection(self.address, timeout=10)
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                status, answer = _post(line, self.row)
                if status == 200:
                    self.versions[answer["version"]] = self.versions.get(answer["version"], 0) + 1
                else:
                    self.failures.append(f"status {status}")
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                line.close()
            self.longest_s = max(self.longest_s, time.monotonic() - begun)
            self._stop.wait(0.005)  # leaves the training some of the machine
        line.close()

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()
        self._thread.join(15)


def _post(line: http.client.HTTPConnection, row: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    line.request("POST", "/predict", json.dumps(row), {"content-type": "application/json"})
    response = line.getresponse()
    return response.status, json.loads(response.read())


class Story:
    """The chapters, in their order."""

    def __init__(self, place: Workplace, stack: contextlib.ExitStack) -> None:
        self.place = place
        self.stack = stack
        self.times: list[tuple[str, float]] = []

    @contextlib.contextmanager
    def chapter(self, title: str, text: str) -> Iterator[None]:
        """Announce a chapter and take its time."""
        print(f"\n{len(self.times) + 1}  {title}\n   {text}", flush=True)
        begun = time.monotonic()
        yield
        self.times.append((title, time.monotonic() - begun))
        print(f"   {self.times[-1][1]:.1f} s", flush=True)

    def tell(self) -> None:
        """Tell everything."""
        self.data()
        self.first_model()
        server = self.serve()
        self.comment()
        self.constant()
        self.weather()
        self.october(server)
        self.answer(server)
        self.network()

    def data(self) -> None:
        """A copy of the sample, and its files as snapshots."""
        with self.chapter("The data", "Every flight out of New York in 2013, with the weather. Known by content, not by name."):
            self.place.mlops("init", ".", "--template", "flights", shown=False)
            self.place.git("init", "-q", "-b", "main", shown=False)
            self.place.git("config", "commit.gpgsign", "false", shown=False)
            said = self.place.mlops("data", "snapshot")
            promise("flights" in said and "weather" in said, "both sources are versioned; unchanged files are never read again")

    def first_model(self) -> None:
        """Train, and put it under git with the hook."""
        text = "Will a flight be 15 or more minutes late? Asked three hours before, judged on the month the model never saw."
        with self.chapter("A first model", text):
            self.place.mlops("train")
            first = self.place.champion()
            promise(first["value"] >= 0.70, f"AUC {first['value']:.3f} on September, and the first version is champion")
            low, high = first["low"], first["high"]
            say(f"The interval [{low:.3f}, {high:.3f}] resamples whole days: on a stormy day all flights are late together.")
            dropped = self.report("delay.features")["dropped"]
            say(f"{sum(dropped.values()):,} flights were cancelled or diverted: no label, so dropped, and counted.")
            slices = self.report("gbm.evaluate")["slices"]["origin"]
            say("By airport: " + ", ".join(f"{item['value']} {item['metric']:.3f}" for item in slices) + ".")
            self.place.mlops("hook", "install", shown=False)
            self.place.git("add", ".", shown=False)
            self.place.git("commit", "-q", "-m", "Flights, and the model they gave")
            promise((self.place.folder / "mlops.lock").exists(), "mlops.lock tells git which data and which model this is")

    def serve(self) -> Server:
        """Start the server; it runs to the end of the story."""
        with self.chapter("Served", "The champion answers over HTTP, without LightGBM, and stays up from here on."):
            server = Server(self.place)
            self.stack.callback(server.stop)
            answer = server.ask(server.row)
            promise("predictions" in answer, f"one raw row in, one answer out: {json.dumps(answer)}")
        return server

    def comment(self) -> None:
        """A comment means nothing."""
        with self.chapter("A comment is edited", "Nothing of what the steps compute changes, so nothing may run."):
            before = self.place.runs()
            self.place.edit("pipeline.py", "# minutes after schedule from which", "# minutes behind schedule from which")
            self.place.mlops("train")
            promise(self.place.runs() == before, "no step ran")

    def constant(self) -> None:
        """A constant reruns what reads it."""
        with self.chapter("A constant is edited", "Only the trees read it. What runs is known, and why, before paying for it."):
            self.place.edit("pipeline.py", "FEWEST_FLIGHTS = 100 ", "FEWEST_FLIGHTS = 150 ")
            why = self.place.mlops("why", "gbm")
            promise("FEWEST_FLIGHTS" in why, "`why` names the constant")
            ran = self.train()
            promise(ran == ["gbm", "gbm.evaluate"], "exactly two steps ran: the fit and its evaluation")
            self.place.git("add", ".", shown=False)
            self.place.git("commit", "-q", "-m", "Leaves of 150 flights")

    def weather(self) -> None:
        """A worse model is noticed, and its commit is blocked; undone, everything is there again."""
        text = "Somebody simplifies the features. The program still runs, and nothing looks broken."
        with self.chapter("The weather is dropped", text):
            full, less = "rows.select(categories + calendar + weather)", "rows.select(categories + calendar)"
            self.place.edit("features.py", full, less)
            champion = self.place.champion()["id"]
            self.train()
            views = self.place.answer("model", "ls")["items"]
            newest = max(views, key=lambda view: view["version"]["number"])
            promise(newest["verdict"]["verdict"] == "fail", "the gate fails: worse on the same flights, beyond noise")
            promise(self.place.champion()["id"] == champion, f"{champion} stays champion and stays served")
            head = self.place.git("rev-parse", "HEAD", shown=False)
            self.place.git("add", ".", shown=False)
            self.place.git("commit", "-m", "Simplify the features", expect=None)
            promise(self.place.git("rev-parse", "HEAD", shown=False) == head, "the commit was blocked, with numbers")
            say("The edit is undone:")
            self.place.edit("features.py", less, full)
            before = self.place.runs()
            self.place.mlops("train")
            promise(self.place.runs() == before, "what the code made before is still known: nothing ran")
            self.place.git("add", ".", shown=False)

    def october(self, server: Server) -> None:
        """New data, a new champion, and a swap under load."""
        with self.chapter("October arrives", "New flights. While the model is trained again, a client asks without a pause."):
            client = Client(server)
            self.stack.callback(client.stop)
            for file in sorted((self.place.folder / "incoming").glob("*-10.parquet")):
                say(f"incoming/{file.name} → data/")
                file.rename(self.place.folder / "data" / file.name)
            before = self.place.champion()
            self.train()
            after = self.place.champion()
            promise(after["id"] != before["id"], f"{after['id']} passed the gate against {before['id']} on October's flights")
            deadline = time.monotonic() + SWAP_S
            while after["number"] not in client.versions and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(0.5)
            client.stop()
            counts = ", ".join(f"{count:,} by {after['model']}@{number}" for number, count in sorted(client.versions.items()))
            say(f"{client.total:,} requests meanwhile: {counts}; the longest took {client.longest_s * 1000:.0f} ms")
            promise(after["number"] in client.versions, "the running server swapped to the new champion")
            promise(not client.failures, f"no request failed{'' if not client.failures else ': ' + client.failures[0]}")
            self.place.git("add", ".", shown=False)
            self.place.git("commit", "-q", "-m", "October")

    def answer(self, server: Server) -> None:
        """One answer, and everything it came from."""
        with self.chapter("One answer, and where it came from", "An answer names its version, the version its code and data."):
            rows = {
                "as it stands": server.row,
                "at 17:30": {**server.row, **EVENING},
                "and in a storm": {**server.row, **EVENING, **STORM},
            }
            shown = ("carrier", "origin", "dest", "time_hour")
            say("the flight  " + "  ".join(f"{name}={server.row[name]}" for name in shown))
            answers = {title: server.ask(row) for title, row in rows.items()}
            for title, answer in answers.items():
                say(f"{title:<14}  {answer['predictions'][0]:4.0%} late, says {answer['model']}@{answer['version']}")
            about = server.about("delay")
            say("what that version is, from the server itself:")
            for key in ("id", "candidate", "since", "run", "fingerprint", "bundle"):
                say(f"  {key:<12} {about[key]}")
            for source, snapshot in about["snapshots"].items():
                say(f"  {source:<12} {snapshot}")
            calm, storm = (answers[title]["predictions"][0] for title in ("at 17:30", "and in a storm"))
            promise(storm > calm, "the answer follows the weather")
            held = {item["source"]: item["snapshot"] for item in self.place.answer("data", "ls")["items"]}
            promise(about["snapshots"] == held, "the lineage names the snapshots on this disk")
            self.place.mlops("status")

    def network(self) -> None:
        """The other candidate, where torch is installed."""
        if importlib.util.find_spec("torch") is None:
            print("\n   torch is not installed, so the network is left out; to see it:")
            print("   pip install 'mlops-local[torch]' && mlops train mlp")
            return
        with self.chapter("Another candidate", "A torch network for the same question; the gate decides, not the taste."):
            ran = self.train("mlp")
            promise("mlp" in ran and "split" not in ran, "only the network was trained: data and features were there")
            self.place.mlops("model", "ls")

    def report(self, step: str) -> dict[str, Any]:
        """What a step said of itself when it last ran."""
        wanted = f"name = '{step}' AND state = 'done' ORDER BY ended DESC LIMIT 1"
        query = f"SELECT result->'report' AS report FROM step WHERE {wanted}"
        found: dict[str, Any] = json.loads(self.place.answer("sql", query)["items"][0]["report"])
        return found

    def train(self, *targets: str) -> list[str]:
        """Train and return the names of the steps that ran."""
        self.place.mlops("train", *targets)
        run = self.place.runs()[0]
        rows = self.place.answer("sql", f"SELECT name FROM step WHERE run = '{run}' AND state = 'done' ORDER BY name")["items"]
        return [row["name"] if isinstance(row, dict) else row[0] for row in rows]


def what_next(folder: Path, command: Sequence[str]) -> str:
    """Say what to type next, in a form that works in this shell."""
    found = shutil.which("mlops")
    if found and Path(found).resolve() == Path(command[0]).resolve():
        mlops = "mlops"
    else:
        near = os.path.relpath(command[0], folder)
        mlops = shlex.join([near if near.count("..") < 4 else command[0], *command[1:]])
    lines = {
        f"{mlops} ui": "everything you saw, in the terminal",
        f"{mlops} watch --serve": "edit features.py in another window and see what reruns",
        f"mv incoming/*-11.parquet data/ && {mlops} train": "November",
        f'{mlops} sql "SELECT id, metric, value FROM version"': "everything is a table",
    }
    width = max(map(len, lines))
    told = "\n".join(f"   {line:<{width}}   # {why}" for line, why in lines.items())
    return f"Next, in your own time:\n   cd {shlex.quote(os.path.relpath(folder))}\n{told}"


def prepare(folder: Path) -> None:
    """Make the folder anew if an earlier demo made it; refuse any other that is not empty."""
    if (folder / MARK).exists():
        shutil.rmtree(folder)
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"demo: {folder} exists and was not made by `make demo`; move it away or pass --dir")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()


def main() -> int:
    """Tell the story; 0 when every promise was kept."""
    parser = argparse.ArgumentParser(description="Tell the whole loop on the flights sample.")
    parser.add_argument("--dir", type=Path, default=ROOT / "demo", help="where to work (demo/)")
    folder = parser.parse_args().dir.absolute()
    if shutil.which("git") is None:
        sys.exit("demo: git is needed for the chapter about commits; install it and try again")
    prepare(folder)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the server is ended in either case
    begun = time.monotonic()
    print(f"mlops_local: the whole loop on one machine, in {folder}")
    with contextlib.ExitStack() as stack:
        story = Story(Workplace(folder), stack)
        try:
            story.tell()
        except NotKept as broken:
            print(f"\n   ✗ not kept: {broken}", flush=True)
            return 1
        except KeyboardInterrupt:
            print("\n   ended early; the server is stopped", flush=True)
            return 130
    longest = max(len(title) for title, _ in story.times)
    print("\nTimes")
    for title, seconds in story.times:
        print(f"   {title:<{longest}}  {seconds:5.1f} s")
    print(f"   {'all':<{longest}}  {time.monotonic() - begun:5.1f} s")
    print("\n" + what_next(folder, story.place.command))
    return 0


if __name__ == "__main__":
    sys.exit(main())
