"""sparkmagic 0.23 in real kernels of notebooks, driven by nbclient: livy_notebook.py URL"""

import json
import os
import pathlib
import sys
import tempfile

import nbclient
import nbformat

LANGUAGES = {"pysparkkernel": "python", "sparkkernel": "scala", "sparkrkernel": "r"}


def prepare(folder, url):
    """Installs the kernels of sparkmagic into a folder, with a configuration that names the cluster."""
    for kernel in LANGUAGES:
        place = folder / "kernels" / kernel
        place.mkdir(parents=True)
        command = [sys.executable, "-m", f"sparkmagic.kernels.{kernel}.{kernel}", "-f", "{connection_file}"]
        spec = {"argv": command, "display_name": kernel, "language": LANGUAGES[kernel]}
        (place / "kernel.json").write_text(json.dumps(spec))
    credentials = {"username": "", "password": "", "url": url, "auth": "None"}
    config = {f"kernel_{language}_credentials": credentials for language in LANGUAGES.values()}
    config |= {
        "session_configs": {"name": "notebook", "conf": {"spark.sql.session.timeZone": "UTC"}, "numExecutors": 2},
        "retry_policy": "configurable",
        "retry_seconds_to_sleep_list": [0.02],
        "heartbeat_refresh_seconds": 1,
        "logging_config": {"version": 1, "disable_existing_loggers": False},
    }
    (folder / "config.json").write_text(json.dumps(config))
    os.environ["SPARKMAGIC_CONF_DIR"] = str(folder)
    os.environ["JUPYTER_PATH"] = str(folder)
    os.environ["IPYTHONDIR"] = str(folder / "ipython")


def run(kernel, cells):
    """Runs cells in a kernel, and returns what each of them printed."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=60, kernel_name=kernel, allow_errors=True).execute()
    printed = []
    for cell in notebook.cells:
        outputs = (output.get("text") or str(output.get("data", "")) or output.get("evalue", "") for output in cell.outputs)
        printed.append("".join(outputs))
    return printed


def main(url):
    with tempfile.TemporaryDirectory() as folder:
        prepare(pathlib.Path(folder), url)
        cells = [
            "%%sql -q\ncreate table from_notebook as select value as n, 'it''s \"ä\"' as t from generate_series(1, 3000)",
            "%%sql -q -o frame\nselect n, t, case when n > 1 then n end as m from from_notebook order by n",
            "%%local\nprint(len(frame), list(frame.columns), frame.iloc[1].to_dict())",
            "%%sql -q -o few -n 2\nselect n from from_notebook order by n desc",
            "%%local\nprint(few['n'].to_list())",
            "%%sql\nselect count(*) as shown_count from from_notebook",
            "spark.sql('select 40 + 2 as answer')",
            "seen = 20\nprint(seen + 1)",
            "%%sql\nselect nothing from from_notebook",
            "%%spark -o counted\ncounted = spark.table('from_notebook').filter('n <= 3').orderBy('n')",
            "%%local\nprint(counted['n'].to_list(), counted['t'].to_list()[0])",
            "%%local\nimport pandas\nlocal_frame = pandas.DataFrame({'b': [1, 2], 'a': ['x', None]})\nword = \"it's ä\"",
            "%%send_to_spark -i local_frame -n sent -t df",
            "%%send_to_spark -i word -n told -t str",
            "print(sent.columns, sent.orderBy('b').collect(), told, seen)",
            "def fails():\n    return 1 / 0\n\nfails()",
            "%%spark -o sampled -m sample -r 0.5\nsampled = spark.range(1000)",
            "%%local\nprint(0 < len(sampled) < 1000)",
            "%%delete -f -s 0",
        ]
        printed = run("pysparkkernel", cells)
        assert "SparkSession available as 'spark'" in printed[0], printed
        assert printed[2].strip() == """2500 ['n', 't', 'm'] {'n': 2, 't': 'it\\'s "ä"', 'm': 2.0}""", printed[2]
        assert printed[4].strip() == "[3000, 2999]", printed
        assert "shown_count" in printed[5] or "VBox" in printed[5], printed
        assert "answer" in printed[6] and "42" in printed[6], printed
        # Cells of the cluster have a bar of progress before what they print.
        assert printed[7].endswith("21"), printed
        assert "nothing" in printed[8], printed
        assert printed[10].strip() == "[1, 2, 3] it's \"ä\"", printed
        assert printed[14].endswith("['a', 'b'] [Row(a='x', b=1), Row(a=None, b=2)] it's ä 20"), printed
        assert "division by zero" in printed[15] and "line 2, in fails" in printed[15], printed
        assert printed[17].strip() == "True", printed
        for kernel in ("sparkkernel", "sparkrkernel"):
            cells = [
                "%%sql -q -o frame\nselect n, t from from_notebook where n < 3 order by n",
                "%%local\nprint(frame['n'].to_list(), frame['t'].to_list()[0])",
            ]
            printed = run(kernel, cells)
            expected = "[1, 2] it's \"ä\""
            assert printed[1].strip() == expected, (kernel, printed)
    print("notebooks: ok")


if __name__ == "__main__":
    main(sys.argv[1])
