"""A small wiki: its pages lie in an SQLite database.

    wiki.py serve      answers on a port that it prints first; pages may be kept for an hour
    wiki.py dump       writes all data to standard output
    wiki.py load       reads such data from standard input, in place of what is there
"""

import http.server
import os
import sqlite3
import sys
from pathlib import Path

DATABASE = Path(__file__).with_name("wiki.db")


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with sqlite3.connect(DATABASE) as database:
            row = database.execute("SELECT text FROM page WHERE path = ?", (self.path,)).fetchone()
        body = (row[0] if row else "nothing").encode()
        self.send_response(200 if row else 404)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=3600")
        self.end_headers()
        self.wfile.write(body)


def serve():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    print(server.server_port, flush=True)
    server.serve_forever()


def dump():
    with sqlite3.connect(DATABASE) as database:
        for statement in database.iterdump():
            print(statement)


def load():
    new = DATABASE.with_suffix(".new")
    new.unlink(missing_ok=True)
    with sqlite3.connect(new) as database:
        database.executescript(sys.stdin.read())
    os.replace(new, DATABASE)


{"serve": serve, "dump": dump, "load": load}[sys.argv[1]]()
