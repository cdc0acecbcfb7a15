"""Compares `count_words --json` with `Counter(text.split())`: `same_counts.py PROGRAM`."""

import json
import pathlib
import random
import subprocess
import sys
import tempfile
from collections import Counter

program = pathlib.Path(sys.argv[1]).resolve()


def compare(name, paths, *options):
    output = subprocess.run([program, "--json", *options, *paths], check=True, capture_output=True).stdout
    expected = Counter()
    for path in paths:
        # newline="" keeps the line endings as they are.
        with open(path, encoding="utf-8", newline="") as file:
            expected.update(file.read().split())
    assert json.loads(output) == expected, f"{name}: the counts differ"
    print(f"{name}: {sum(expected.values())} words, {len(expected)} different: equal")


with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    root = pathlib.Path(__file__).parents[2]
    listed = subprocess.run(["git", "ls-files", "-z", "*.rs", "*.md"], cwd=root, check=True, capture_output=True).stdout
    compare("this repository's sources", [root / path for path in listed.decode().split("\0") if path])

    every = [chr(c) for c in range(0x110000) if chr(c).isspace()]
    lookalikes = ["\u200b", "\ufeff", "\u180e", "\u2060", "\0", "\x7f"]
    spaces = folder / "spaces"
    text = "".join(f"a{space}b{space}{space}é" for space in every + lookalikes)
    spaces.write_bytes(text.encode())
    for chunk in ["1", "2", "7", "64", "65536"]:
        compare(f"every whitespace, in chunks of {chunk}", [spaces], "--chunk", chunk)

    empty = folder / "empty"
    empty.write_bytes(b"")
    compare("an empty file", [empty])

    random.seed(1)
    words = [f"word{n}" for n in range(5_000)] + ["naïve", "日本", "🦀"]
    long = folder / "long"
    long.write_bytes(" ".join(random.choices(words, k=2_300_000)).encode())
    assert long.stat().st_size > 20_000_000
    compare("20 MB in one line", [long])
