"""The Python process of an interactive session, against a primary of this test."""

import http.server
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

KERNEL = Path(__file__).resolve().parents[3] / "executor/src/programs/kernel.py"
# Longer than any test takes, so that a hang is a failure.
SOON = 30


class Primary:
    """Hands out orders, and takes results."""

    def __init__(self, folder, limit=4096):
        self.orders, self.results, self.keys = queue.Queue(), queue.Queue(), []
        primary = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                primary.keys.append((self.path, self.headers["Authorization"]))
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.send({"secret": "s", "session": "abc", "limit": limit})
                while (order := primary.orders.get()) is not None:
                    self.send(order)
                self.wfile.write(b"0\r\n\r\n")

            def send(self, order):
                line = json.dumps(order).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                primary.results.put((self.path, self.headers["Authorization"], body))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{self.server.server_port}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WINDLASS")}
        self.process = subprocess.Popen(
            [sys.executable, str(KERNEL), address, "k", "key"], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self.number = 0

    def begin(self, code):
        self.number += 1
        self.orders.put({"run": self.number, "code": code})
        return self.number

    def result(self):
        path, secret, body = self.results.get(timeout=SOON)
        assert (path, secret) == (f"/api/v1/kernels/k/results/{self.number}", "Bearer s")
        return body

    def run(self, code):
        self.begin(code)
        result = self.result()
        return json.loads(result["data"]) if result["status"] == "ok" else result

    def text(self, code):
        return self.run(code)["text/plain"]

    def close(self):
        self.orders.put(None)
        self.process.kill()
        self.process.communicate()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def primary(tmp_path):
    primary = Primary(tmp_path)
    yield primary
    primary.close()


def test_statements_have_one_namespace_and_their_values_and_prints(primary):
    assert primary.text("x = 6\nx * 7") == "42"
    assert primary.text("print(x, end='')\n'a'") == "6\n'a'"
    assert primary.text("import os\nos.environ['WINDLASS_SESSION']") == "'abc'"
    assert primary.text("__name__, __import__('__main__').x") == "('__main__', 6)"
    assert primary.text("") == ""
    assert primary.text("print('a'); print(b'\\xff\\x00'.decode('latin1'))") == "a\nÿ\x00"
    assert primary.text("import sys\nsys.stdout.buffer.write(b'bytes\\n')\nsys.stdout.close()\nprint('open')") == "bytes\nopen"
    assert primary.keys == [("/api/v1/kernels/k", "Bearer key")]


def test_errors_show_the_lines_of_the_user(primary):
    failed = primary.run("def f():\n    raise ValueError('no such thing')\n\nprint('before')\nf()")
    assert (failed["ename"], failed["evalue"], failed["printed"]) == ("ValueError", "no such thing", "before\n")
    trace = "".join(failed["traceback"])
    assert "line 5, in <module>" in trace and "    raise ValueError('no such thing')" in trace and "kernel.py" not in trace
    failed = primary.run("a = 1\nb = = 2")
    assert failed["ename"] == "SyntaxError" and "line 2" in failed["evalue"] and "kernel.py" not in "".join(failed["traceback"])
    failed = primary.run("class Bad(Exception):\n    def __str__(self): raise KeyError\nraise Bad")
    assert failed["ename"] == "Bad" and "cannot be shown" in failed["evalue"]
    assert primary.run("exit('bye')")["ename"] == "SystemExit"
    assert primary.run("input()")["ename"] == "EOFError"
    assert primary.run("def f(): f()\nf()")["ename"] == "RecursionError"
    assert primary.run("'\\ud800' + str(1 / 0)")["ename"] == "ZeroDivisionError"
    assert primary.run("raise ValueError('\\ud800')")["evalue"] == "?"
    # Nothing of a statement with such an error runs, and what others have made stays.
    assert primary.run("a")["ename"] == "NameError" and primary.text("callable(f)") == "True"


def test_errors_of_the_package_do_not_show_its_inside(primary):
    failed = primary.run("import windlass\ndef f():\n    windlass.connect(slots=0)\ntry:\n    f()\nexcept windlass.Error as error:\n    raise ValueError('x') from error")
    trace = "".join(failed["traceback"])
    assert "line 3, in f" in trace and "InvalidError" in trace and "ValueError: x" in trace and "_session.py" not in trace
    # Those of other packages are shown.
    assert "decoder.py" in "".join(primary.run("import json\njson.loads('{')")["traceback"])


def test_outputs_are_bounded(primary):
    cut = primary.text("print('é' * 10000)")
    kept, note = cut.split("\n… ")
    assert len(kept.encode()) + int(note.split()[0]) == 20001 and len(kept.encode()) <= 4096
    cut = primary.text("'\\x00' * 5000")
    assert "bytes more were cut" in cut and len(json.dumps(cut)) < 6000
    assert "4096 are kept" in primary.run("long = 'x' * 5000\n%json long")["evalue"]
    failed = primary.run("raise ValueError('x' * 100000)")
    assert len(failed["evalue"]) < 2000 and sum(map(len, failed["traceback"])) < 4096


def test_magics(primary):
    table = primary.run("import datetime\nrows = [(1, datetime.date(2024, 2, 29)), (None, None)]\n%table rows")
    headers = [{"name": "0", "type": "BIGINT_TYPE"}, {"name": "1", "type": "DATE_TYPE"}]
    assert table == {"application/vnd.livy.table.v1+json": {"headers": headers, "data": [[1, "2024-02-29"], [None, None]]}}
    assert primary.run("print('beside')\n%json rows[0]")["ename"] == "NameError"
    both = primary.run("value = {'a': float(1)}\nprint('beside')\n%json value")
    assert both == {"application/json": {"a": 1.0}, "text/plain": "beside"}
    assert primary.run("value = float('nan')\n%json value")["ename"] == "ValueError"
    assert primary.run("mixed = [[1], ['a']]\n%table mixed")["ename"] == "TypeError"
    floats = primary.run("floats = [[float('inf')], [float('nan')]]\n%table floats")
    assert floats["application/vnd.livy.table.v1+json"]["data"] == [["Infinity"], ["NaN"]]
    assert "line 3" in "".join(primary.run("x = 1\n%json x\n1 / 0")["traceback"])


@pytest.mark.parametrize("code", ["while True: pass", "import time; time.sleep(1000)", "import threading; threading.Event().wait()"])
def test_an_interrupt_ends_a_statement(primary, tmp_path, code):
    there = tmp_path / "there"
    number = primary.begin(f"open({str(there)!r}, 'w').close()\n{code}")
    while not there.exists():
        assert primary.process.poll() is None
    primary.orders.put({"interrupt": number - 1})
    primary.orders.put({"interrupt": number})
    assert primary.result()["ename"] == "KeyboardInterrupt"
    # One that comes with its statement, and one that comes late.
    primary.orders.put({"run": number + 1, "code": "while True: pass"})
    primary.orders.put({"interrupt": number + 1})
    primary.number = number + 1
    assert primary.result()["ename"] == "KeyboardInterrupt"
    primary.orders.put({"interrupt": number + 1})
    assert primary.text("7") == "7"


def test_what_threads_print_belongs_to_the_statement_that_runs(primary):
    code = "import threading\ngo, done = threading.Event(), threading.Event()\ndef late():\n    go.wait()\n    print('late')\n    done.set()\n"
    assert primary.text(code + "threading.Thread(target=late).start()") == ""
    assert primary.text("go.set()\nassert done.wait(10)\nprint('own')") == "late\nown"
    code = "ended = threading.Event()\ndef between():\n    print('dropped')\n    ended.set()\nthreading.Timer(0.2, between).start()"
    assert primary.text(code) == ""
    # It prints while no statement runs.
    primary.process.send_signal(signal.SIGINT)
    threading.Event().wait(0.6)
    assert primary.text("ended.is_set()") == "True"


def test_a_fork_that_comes_back_sends_nothing(primary):
    assert primary.text("import os\nif os.fork() == 0: x = 1\nelse: os.wait()\n2") == "2"
    assert primary.text("3") == "3" and primary.results.empty()


def test_it_ends_with_its_connection(primary):
    primary.text("1")
    primary.begin("while True: pass")
    primary.orders.put(None)
    assert primary.process.wait(SOON) == 3
    assert b"closed the connection" in primary.process.stderr.read()


def test_a_primary_that_is_not_there_is_named(tmp_path):
    ended = subprocess.run([sys.executable, str(KERNEL), "http://127.0.0.1:9", "k", "key"], cwd=tmp_path, capture_output=True, timeout=SOON)
    assert ended.returncode == 3 and b"http://127.0.0.1:9, cannot be reached" in ended.stderr


def test_files_beside_it_are_found(tmp_path):
    (tmp_path / "helper.py").write_text("value = 7\n")
    import zipfile

    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("packed.py", "value = 8\n")
    primary = Primary(tmp_path)
    try:
        assert primary.text("import helper, packed\nhelper.value + packed.value") == "15"
    finally:
        primary.close()


def test_a_missing_package_is_named_when_it_is_used(tmp_path):
    (tmp_path / "windlass.py").write_text("raise ImportError('none here')\n")
    primary = Primary(tmp_path)
    try:
        assert primary.text("1 + 1") == "2"
        failed = primary.run("spark.sql('select 1')")
        assert failed["ename"] == "ImportError" and "install it for that interpreter" in failed["evalue"]
    finally:
        primary.close()
