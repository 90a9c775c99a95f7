"""The Python process of an interactive session: runs statements one after the other, in one namespace.

    primary ──orders, a line of JSON each──> thread ──> main thread, which runs statements
       ^───────────── the result of each ────────────────────────┘

Its arguments are the address of the primary's REST interface, its own name, and a key that serves once. The first line of the answer has what it needs
further. The process ends when that answer ends: nobody wants its results any more.
"""

import ast
import base64
import builtins
import contextlib
import datetime
import decimal
import http.client
import io
import json
import linecache
import os
import queue
import signal
import sys
import threading
import traceback
import types
import urllib.parse

# Seconds without a line from the primary, which says something every few seconds, and for the answer to a result.
SILENCE = 30.0
ANSWER = 60.0
# The file of what the statement that runs has printed, in the folder of this process.
PRINTED = ".windlass-printed"
# Exit code of a process that nobody wants any more.
GONE = 3

TABLE = "application/vnd.livy.table.v1+json"
JSON = "application/json"
TEXT = "text/plain"
PNG = "image/png"


def leave(why):
    """Ends the process from any thread. The end of what a program prints is part of its error."""
    os.write(2, f"{why}\n".encode())
    os._exit(GONE)


class Primary:
    """The primary that wants the results of this process."""

    def __init__(self, address, name):
        parts = urllib.parse.urlsplit(address)
        self.address, self.host, self.port = address, parts.hostname, parts.port
        self.path = f"/api/v1/kernels/{name}"
        self.secret = ""

    def connect(self, key):
        """Opens the stream of orders, and returns it with its first line."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=SILENCE)
        try:
            connection.request("GET", self.path, headers={"Authorization": f"Bearer {key}"})
            orders = connection.getresponse()
            if orders.status != 200:
                leave(f"{self.address} does not know this process: {orders.read().decode(errors='replace')}")
            first = json.loads(orders.readline())
        except (OSError, http.client.HTTPException, ValueError) as error:
            leave(f"the primary's REST interface, {self.address}, cannot be reached from this executor: {error}")
        self.secret = first["secret"]
        return orders, first

    def send(self, number, result):
        """Sends the result of a statement."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=ANSWER)
        headers = {"Authorization": f"Bearer {self.secret}", "Content-Type": "application/json"}
        try:
            connection.request("POST", f"{self.path}/results/{number}", written(result).encode(), headers)
            answer = connection.getresponse()
            said = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            leave(f"the primary does not take a result: {error}")
        finally:
            connection.close()
        if answer.status != 200:
            leave(f"the primary refuses a result: {said}")


class Printed(io.RawIOBase):
    """What is printed while a statement runs, by whichever thread. What is printed while none runs is dropped.

    It also lies in a file, which the executor reads when this process ends in the middle of a statement.
    """

    def __init__(self):
        self.file = os.open(PRINTED, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND, 0o600)
        self.end()

    def begin(self, room):
        self.room, self.pieces, self.bytes = room, [], 0
        # A statement may close any file.
        with contextlib.suppress(OSError):
            os.ftruncate(self.file, 0)

    def end(self):
        self.begin(0)

    def writable(self):
        return True

    def write(self, data):
        data = bytes(data)
        piece = data[: max(self.room, 0)]
        self.room -= len(piece)
        self.bytes += len(data)
        if piece:
            self.pieces.append(piece)
            with contextlib.suppress(OSError):
                os.write(self.file, piece)
        return len(data)

    def close(self):
        """Does nothing: the next statement prints too."""

    def text(self):
        """Returns the beginning of it, and the number of bytes that are left out."""
        kept = b"".join(self.pieces)
        return kept.decode("utf-8", "ignore"), self.bytes - len(kept)


def text_file(printed):
    return io.TextIOWrapper(printed, encoding="utf-8", errors="backslashreplace", write_through=True)


class Later:
    """Stands for a name such as ``spark`` until it is first used: making it imports a package and connects to the cluster."""

    _made = {}

    def __init__(self, name, names):
        self.__dict__.update(_name=name, _names=names)

    def _real(self):
        try:
            from windlass.spark import SparkSession
        except ImportError as error:
            raise ImportError(
                f"'{self._name}' needs the package windlass, which {sys.executable} cannot import ({error}): install it for that interpreter, which "
                "the setting python of the section executor names"
            ) from None
        if not self._made:
            spark = SparkSession()
            self._made.update(spark=spark, sqlContext=spark, sc=spark.sparkContext)
        for name, value in self._made.items():
            if isinstance(self._names.get(name), Later):
                self._names[name] = value
        return self._made[self._name]

    def __getattr__(self, attribute):
        return getattr(self._real(), attribute)

    def __repr__(self):
        return repr(self._real())


class Magic:
    """A line such as ``%table name``, which puts out the value of a name in a form of its own."""

    def __init__(self, line, number):
        self.line, self.number = line, number

    def output(self, names):
        kind, _, rest = self.line[1:].strip().partition(" ")
        name = rest.strip()
        form = {"table": table_of, "json": json_of, "matplot": figure_of}.get(kind)
        if form is None:
            raise NameError(f"line {self.number}: there is no %{kind}: %table, %json and %matplot are known")
        if not name:
            raise ValueError(f"line {self.number}: %{kind} wants a name, such as %{kind} {'plt' if kind == 'matplot' else 'rows'}")
        if name not in names:
            raise NameError(f"line {self.number}: name '{name}' is not defined{no_matplotlib(kind)}")
        return form(names[name])


def no_matplotlib(kind):
    if kind != "matplot":
        return ""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return f", and the package matplotlib is not installed for {sys.executable}"
    return ": import matplotlib.pyplot as plt"


def json_of(value):
    return {JSON: value}


def figure_of(plot):
    figure = io.BytesIO()
    plot.gcf().savefig(figure, format="png")
    return {PNG: base64.b64encode(figure.getvalue()).decode()}


# Livy's names of types, each for the types of Python that have it. The first that fits counts.
TYPES = [
    (type(None), "NULL_TYPE"),
    (bool, "BOOLEAN_TYPE"),
    (int, "BIGINT_TYPE"),
    (float, "DOUBLE_TYPE"),
    (str, "STRING_TYPE"),
    (datetime.datetime, "TIMESTAMP_TYPE"),
    (datetime.date, "DATE_TYPE"),
    (decimal.Decimal, "DECIMAL_TYPE"),
    ((list, tuple), "ARRAY_TYPE"),
    (dict, "MAP_TYPE"),
]


def table_of(value):
    """Returns rows as Livy's %table does: a list of rows, each a list, a tuple, a dict, a Row or a single value."""
    rows, types = [], {}
    for row in value if isinstance(value, (list, tuple)) and not hasattr(value, "asDict") else [value]:
        if hasattr(row, "asDict"):
            row = row.asDict()
        if not isinstance(row, dict):
            row = dict(enumerate(row if isinstance(row, (list, tuple)) else [row]))
        rows.append({})
        for name, cell in row.items():
            kind = next((kind for of, kind in TYPES if isinstance(cell, of)), "STRING_TYPE")
            if types.get(name, "NULL_TYPE") == "NULL_TYPE":
                types[name] = kind
            elif kind not in ("NULL_TYPE", types[name]):
                raise TypeError(f"%table: column {name} has values of different types, {types[name]} and {kind}")
            rows[-1][name] = plain(cell)
    headers = [{"name": str(name), "type": kind} for name, kind in types.items()]
    return {TABLE: {"headers": headers, "data": [[row.get(name) for name in types] for row in rows]}}


def plain(cell):
    """Returns a cell as JSON has it. A number that JSON has not is a text, as in the outputs of SQL."""
    if isinstance(cell, float) and (cell != cell or cell in (float("inf"), float("-inf"))):
        return "NaN" if cell != cell else "Infinity" if cell > 0 else "-Infinity"
    if hasattr(cell, "asDict"):
        cell = cell.asDict()
    if isinstance(cell, (list, tuple)):
        return [plain(part) for part in cell]
    if isinstance(cell, dict):
        return {str(name): plain(part) for name, part in cell.items()}
    return cell if isinstance(cell, (type(None), bool, int, float)) else str(cell)


def parts_of(code, file):
    """Returns the parts of a statement: trees of code, and lines that begin with % where the whole is no Python.

    Lines keep their numbers: errors show those of the statement.
    """
    lines = code.split("\n")
    try:
        return [ast.parse(code, file)]
    except SyntaxError:
        if not any(line.startswith("%") for line in lines):
            raise
    parts, begun = [], 0
    for at, line in enumerate([*lines, "%"]):
        if line.startswith("%"):
            if "".join(lines[begun:at]).strip():
                parts.append(ast.parse("\n" * begun + "\n".join(lines[begun:at]), file))
            if at < len(lines):
                parts.append(Magic(line, at + 1))
            begun = at + 1
    return parts


def written(value):
    """Returns a value as JSON. Half characters, which are no text, become question marks."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace").decode()


def bounded(text, limit, left_out=0):
    """Returns a text whose JSON has about ``limit`` bytes at most, and which says how many bytes it leaves out."""
    kept = text
    while kept and (size := len(written(kept).encode())) > limit:
        kept = kept[: len(kept) * limit // (size + 1)]
    left_out += len(text[len(kept) :].encode("utf-8", "replace"))
    return f"{kept}\n… {left_out} bytes more were cut: see output_bytes in the section primary" if left_out else kept


def told(error, trace):
    """Returns an error and those that it comes from, without the frames inside the package of the session."""
    package = sys.modules.get("windlass")
    home = os.path.join(os.path.dirname(getattr(package, "__file__", None) or "/nowhere/"), "")
    all_of_it = [traceback.TracebackException(type(error), error, trace)]
    for one in all_of_it:
        one.stack = traceback.StackSummary.from_list([frame for frame in one.stack if not frame.filename.startswith(home)])
        all_of_it += [other for other in (one.__cause__, one.__context__) if other is not None]
    return list(all_of_it[0].format())


class Session:
    """The names of a session, and the statement that runs."""

    def __init__(self, limit):
        self.limit = limit
        self.printed = Printed()
        # The number of the running statement, and of the last one that is to stop.
        self.running = None
        self.interrupted = None
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        self.names = module.__dict__
        self.names["__builtins__"] = builtins
        self.names.update((name, Later(name, self.names)) for name in ("spark", "sqlContext", "sc"))
        sys.stdout, sys.stderr = text_file(self.printed), text_file(self.printed)

    def run(self, number, code):
        """Runs a statement to its end, and returns its result."""
        # The statement before may have changed both.
        signal.signal(signal.SIGINT, self.on_interrupt)
        sys.stdin = open(os.devnull)
        file = f"<statement {number}>"
        linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
        self.printed.begin(self.limit)
        try:
            try:
                self.running = number
                if self.interrupted == number:
                    raise KeyboardInterrupt
                return {"status": "ok", "data": self.execute(code, file)}
            finally:
                self.running = None
        except BaseException as error:
            return self.failure(error, file)
        finally:
            self.printed.end()

    def on_interrupt(self, *_):
        if self.running is not None:
            raise KeyboardInterrupt

    def interrupt(self, number):
        """Stops a statement, from another thread. A signal also ends what its thread waits for."""
        self.interrupted = number
        if self.running == number:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    def execute(self, code, file):
        """Returns the outputs of a statement as JSON: an object of their forms."""
        outputs = {}
        value = None
        for part in parts_of(code, file):
            value = None
            if isinstance(part, Magic):
                outputs.update(part.output(self.names))
                continue
            last = part.body.pop() if part.body and isinstance(part.body[-1], ast.Expr) else None
            exec(compile(part, file, "exec", dont_inherit=True), self.names)
            if last is not None:
                value = eval(compile(ast.Expression(last.value), file, "eval", dont_inherit=True), self.names)
        forms = {form: written(output) for form, output in outputs.items()}
        size = sum(len(output.encode()) for output in forms.values())
        if size > self.limit:
            raise ValueError(f"the output has {size} bytes, and {self.limit} are kept: see output_bytes in the section primary")
        shown = "" if value is None else repr(value)
        text, left_out = self.printed.text()
        if shown:
            text += "\n" * bool(text and not text.endswith("\n")) + shown
        if text or not forms:
            text = text[:-1] if text.endswith("\n") else text
            forms[TEXT] = written(bounded(text, self.limit - size, left_out))
        return "{" + ",".join(f'"{form}":{output}' for form, output in forms.items()) + "}"

    def failure(self, error, file):
        """Returns an error as Livy shows it, with the frames of the user's code alone."""
        trace = error.__traceback__
        while trace is not None and not trace.tb_frame.f_code.co_filename.startswith("<statement "):
            trace = trace.tb_next
        lines = told(error, trace)
        try:
            message = str(error)
        except Exception as inner:
            message = f"its message cannot be shown: {type(inner).__name__}"
        text, left_out = self.printed.text()
        quarter = self.limit // 4
        while len(lines) > 2 and sum(map(len, lines)) > quarter:
            # The first line is a heading, and the last ones say what happened.
            lines.pop(1)
        return {
            "status": "error",
            "ename": type(error).__name__,
            "evalue": bounded(message, quarter),
            "traceback": [bounded(line, quarter) for line in lines],
            "printed": bounded(text, quarter, left_out),
        }


def listen(orders, session, statements):
    """Hands out the primary's orders, and ends the process with their stream."""
    try:
        for line in iter(orders.readline, b""):
            order = json.loads(line)
            if "run" in order:
                statements.put((order["run"], order["code"]))
            elif "interrupt" in order:
                session.interrupt(order["interrupt"])
        why = "the primary has closed the connection"
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = f"the connection to the primary broke: {error}"
    leave(why)


def main():
    address, name, key = sys.argv[1:]
    sys.argv = [""]
    # What came along is found here, archives too.
    here = os.getcwd()
    archives = [os.path.join(here, file) for file in sorted(os.listdir(here)) if file.endswith((".zip", ".egg"))]
    sys.path[:1] = [here, *archives]
    primary = Primary(address, name)
    orders, first = primary.connect(key)
    os.environ["WINDLASS_SESSION"] = first["session"]
    # Figures are drawn without a screen.
    os.environ.setdefault("MPLBACKEND", "Agg")
    session, statements = Session(first["limit"]), queue.Queue()
    threading.Thread(target=listen, args=(orders, session, statements), daemon=True).start()
    own = os.getpid()
    while True:
        number, code = statements.get()
        result = session.run(number, code)
        if os.getpid() != own:
            # A fork of this process that came back from the statement: its results are nobody's.
            os._exit(0)
        primary.send(number, result)


main()
