#!/usr/bin/env python3
"""The corpus of a parser: one file, one input a line as Base64, sorted. libFuzzer wants a folder with a file for each input.

    corpus.py unpack FILE FOLDER
    corpus.py pack FOLDER FILE
"""

import base64
import hashlib
import pathlib
import sys


def unpack(file: pathlib.Path, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for line in file.read_text().split() if file.exists() else []:
        data = base64.b64decode(line, validate=True)
        (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def pack(folder: pathlib.Path, file: pathlib.Path) -> None:
    inputs = sorted({path.read_bytes() for path in folder.iterdir()}, key=lambda data: (len(data), data))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(base64.b64encode(data).decode() + "\n" for data in inputs))
    print(f"{file}: {len(inputs)} inputs")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["unpack", source, target]:
            unpack(pathlib.Path(source), pathlib.Path(target))
        case ["pack", source, target]:
            pack(pathlib.Path(source), pathlib.Path(target))
        case _:
            sys.exit(__doc__)
