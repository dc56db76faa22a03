"""What stood on the command line of headless Fiji.

SciJava drops unknown and mistyped parameters with a warning and goes on; here they are found.
"""

import os

from java.lang import ProcessHandle, System


def parameters_of(script):
    """Return {name: text} as typed after `--run SCRIPT`, or {} where the command line is not known (Windows, scripts run from a window)."""
    words = _words()
    for at in range(len(words) - 2):
        if words[at] == "--run" and os.path.basename(words[at + 1]) == os.path.basename(script):
            return split(words[at + 2])
    return {}


def _words():
    arguments = ProcessHandle.current().info().arguments()
    if arguments.isPresent():
        return list(arguments.get())
    known = System.getProperty("sun.java.command")
    return [] if known is None or '"' in known else known.split(" ")


def split(text):
    """Return {name: value as typed} of 'a=1,b="x, y",c={1,2}'; a part without a name is {part: None}."""
    parts, part, quote, depth, escaped = [], [], "", 0, False
    for letter in text:
        if escaped:
            escaped = False
        elif letter == "\\":
            escaped = True
        elif quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "{[(":
            depth += 1
        elif letter in "}])":
            depth -= 1
        elif letter == "," and depth == 0:
            parts.append("".join(part))
            part = []
            continue
        part.append(letter)
    parts.append("".join(part))
    found = {}
    for part in parts:
        name, sign, value = part.partition("=")
        if name.strip():
            found[name.strip()] = value.strip() if sign else None
    return found
