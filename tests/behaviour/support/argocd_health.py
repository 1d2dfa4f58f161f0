"""Judge objects as Argo CD does: the script named first, in Lua 5.1, with each object of a JSON array as `obj`."""

import json
import sys

from lupa.lua51 import LuaRuntime


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        script = file.read()
    answers = []
    for judged in json.load(sys.stdin):
        lua = LuaRuntime(unpack_returned_tuples=True)
        # Argo CD opens no library that reaches outside.
        lua.execute("os, io, package, require, debug, dofile, loadfile = nil")
        lua.globals().obj = lua.table_from(judged, recursive=True)
        answer = lua.execute(script)
        answers.append({"status": answer["status"], "message": answer["message"]})
    json.dump(answers, sys.stdout)


main()
