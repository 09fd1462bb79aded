"""The application that gunicorn runs: gunicorn --access-logfile - tests.integration.log_flask:app"""

from __future__ import annotations

from flask import Flask

from p8fs_cluster import Container

app = Flask(__name__)
Container().logger("p8fs_api").info("loaded")


@app.get("/")
def hello() -> str:
    return "hello"
