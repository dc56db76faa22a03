"""Starting and ending Java from Python: real failures of PyImageJ, and ends with the script's own exit code."""

import json
import textwrap

import pytest
from bridge.in_java import run_python

DEAD = {  # a proxy that does not answer: nothing may need the network
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"),
    **dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1"),
}
TRY = """
import json, sys, time
import howdah.bridge as bridge
from howdah.errors import HowdahError

def attempt(name, *arguments, **options):
    began = time.monotonic()
    try:
        result = getattr(bridge, name)(*arguments, **options)
        print(json.dumps("started"), flush=True)
        return result
    except HowdahError as error:
        print(json.dumps(f"{type(error).__name__} after {time.monotonic() - began:.0f} s: {error}"), flush=True)
"""


def child(code, home, *, before=(), **more):
    return run_python(["-c", TRY + textwrap.dedent(code)], home, before=before, **{**DEAD, **more})


def said(done):
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('"')]


def test_failed_checks_leave_the_process_able_to_start_once(java_classpath, tmp_path):
    code = f"""
        from howdah.bridge.java_classes import jvm_runs
        attempt("join")
        attempt("start", "/nowhere/Fiji")
        attempt("start", "/nowhere/Fiji", mode="windowed")
        attempt("start_imagej", "/nowhere/ij-1.54p.jar")
        attempt("start_imagej", [])
        assert not jvm_runs()
        first = attempt("start_imagej", {java_classpath!r}, memory="200m")
        assert attempt("start_imagej", {java_classpath!r}, memory="200m") is first
        print(json.dumps(first.version))
        attempt("start_imagej", {java_classpath!r}, memory="300m")
        attempt("start", "/nowhere/Fiji")
        attempt("join")
        first.close()
        attempt("start_imagej", {java_classpath!r}, memory="200m")
        try:
            first.jimport("ij.IJ")
        except HowdahError as error:
            print(json.dumps(str(error)))
        sys.exit(4)
    """
    done = child(code, tmp_path)
    lines = said(done)
    assert done.returncode == 4, done.stderr
    assert "No Java runs in this process" in lines[0]
    assert "There is no folder /nowhere/Fiji" in lines[1]
    assert "known are headless, interactive and gui" in lines[2]
    assert "there is no /nowhere/ij-1.54p.jar" in lines[3]
    assert "no ij-*.jar is among the 0 jars" in lines[4]
    assert lines[5:8] == ["started", "started", "1.54p"]
    assert "There can be only one" in lines[8]
    assert "There can be only one" in lines[9]
    assert lines[10] == "started"  # the Fiji that runs
    assert "was closed, and a JVM can be started only once. Restart Python" in lines[11]
    assert "This Fiji was closed" in lines[12]


def test_a_folder_of_other_jars_fails_in_the_real_pyimagej(tmp_path):
    import zipfile

    jars = tmp_path / "Fiji" / "jars"
    jars.mkdir(parents=True)
    for name in ("imagej", "imagej-common", "imagej-legacy", "ij", "scijava-common", "imglib2-imglyb"):
        with zipfile.ZipFile(jars / f"{name}-2.0.0.jar", "w") as archive:
            archive.writestr("README", "nothing")
    done = child(
        f"attempt('start', {str(tmp_path / 'Fiji')!r})\nattempt('start', {str(tmp_path / 'Fiji')!r})\nsys.exit(2)",
        tmp_path,
    )
    first, second = said(done)
    assert done.returncode == 2, done.stderr
    assert first.startswith("BridgeError after")
    assert "Starting Fiji (" in first
    assert "Java is running now and cannot be started again: restart Python first." in first
    assert "An earlier start in this process failed when Java was already running" in second


def test_coordinates_behind_a_dead_network_fail_in_the_real_pyimagej_and_can_be_tried_again(tmp_path):
    code = """
        import scyjava
        from howdah.bridge.java_classes import jvm_runs
        scyjava.config.get_repositories().clear()
        scyjava.config.add_repositories(ours="http://127.0.0.1:9/maven")
        attempt("start", "sc.fiji:fiji")
        attempt("start", "sc.fiji:fiji:2.17.0", offline=True)
        assert not jvm_runs()
        sys.exit(3)
    """
    done = child(code, tmp_path)
    first, second = said(done)
    assert done.returncode == 3, done.stderr
    assert "the repository http://127.0.0.1:9/maven cannot be reached" in first
    assert second.startswith("BridgeError after")
    assert "Starting Fiji (sc.fiji:fiji:2.17.0) failed: " in second
    assert "Java is running" not in second


BLUR = """
    fiji = bridge.start_imagej({classpath!r}, memory="300m", mode={mode!r})
    image = fiji.jimport("ij.IJ").createImage("noise", "16-bit random", 64, 64, 4)
    fiji.jimport("ij.plugin.GaussianBlur3D").blur(image, 2, 2, 2)
    assert fiji.jimport("ij.util.ThreadUtil").threadPoolExecutor.getPoolSize() > 0
"""
ENDS = {
    "sys.exit(5)": 5,
    "raise ValueError('a fault')": 1,
    "fiji.close()": 0,
    # pools and timers that nobody shuts down
    "pool = fiji.jimport('java.util.concurrent.Executors').newFixedThreadPool(2)\n"
    "import jpype\npool.submit(jpype.JProxy('java.lang.Runnable', dict(run=lambda: None))).get()\nsys.exit(6)": 6,
    "timer = fiji.jimport('java.util.Timer')()\nsys.exit(8)": 8,
}


@pytest.mark.parametrize("last", ENDS, ids=["exit", "exception", "close", "pool", "timer"])
def test_python_quits_with_its_own_exit_code_after_a_filter_with_threads(java_classpath, tmp_path, last):
    code = textwrap.dedent(BLUR.format(classpath=java_classpath, mode="headless")) + last
    done = child(code, tmp_path, timeout=60)
    assert done.returncode == ENDS[last], done.stderr
    if "Timer" in last:
        assert "1 threads of Java do not end (Timer-0)" in done.stderr


def test_python_quits_with_windows_open(java_classpath, virtual_display, tmp_path):
    code = textwrap.dedent(BLUR.format(classpath=java_classpath, mode="interactive")) + textwrap.dedent("""
        assert not fiji.headless
        image.show()
        image.changes = True
        fiji.jimport("ij.plugin.frame.RoiManager").getRoiManager()
        assert fiji.jimport("ij.WindowManager").getImageCount() == 1
        sys.exit(9)
    """)
    done = child(code, tmp_path, before=(virtual_display, "-a"), timeout=90)
    assert done.returncode == 9, done.stderr
