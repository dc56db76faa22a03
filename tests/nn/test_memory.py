import platform
import subprocess
import sys

TOLD = "from howdah.nn.memory import keep_large_blocks as keep; print(keep(), keep(), len(bytes(1 << 26)))"


def test_large_blocks_are_kept_where_the_c_library_is_glibc():
    """In a process of its own: it cannot be undone."""
    said = subprocess.run([sys.executable, "-c", TOLD], capture_output=True, text=True, check=True).stdout.split()
    agreed = str(platform.libc_ver()[0] == "glibc")
    assert said == [agreed, agreed, str(1 << 26)]
