"""Random environments, `.env` texts, mounted folders, TOML and YAML: settings or a ConfigurationError, and no secret.

python -m tests.fuzz.configuration 100000        # rounds; a second number is the seed
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, SecretStr

from p8fs_cluster import Section
from p8fs_cluster.config import secrets, spelling
from p8fs_cluster.config.reading import LOCATORS
from p8fs_cluster.config.section import declared, names
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import ConfigurationError


class Credentials(BaseModel):
    user: str = ""
    key: SecretStr = SecretStr("")


class FuzzSettings(Section, prefix="fuzz_"):
    hosts: list[str] = []
    weights: dict[str, int] = {}
    tokens: list[SecretStr] = []
    credentials: Credentials = Credentials()
    ratio: float = 1.0


SECRETS = ("pg_password", "tidb_password", "auth_jwt_secret", "fuzz_tokens", "fuzz_credentials", "pg_pasword")
ODD = ["", "'", '"', "\\", "\n", "\r\n", "\x00", "\udcff", "é→", "🙂", "#", " ", "=", "${HOME}", "{", "}", "[", "]", ",", ":", "*", "&", "!", "|", "%", "@", "\t", "- "]  # fmt: skip
PLAIN = ["0", "1", "-1", "5432", "65536", "true", "no", "null", "~", "nan", "inf", "1e9", "db", "postgresql", "rocksdb", "DEBUG", "json", "a,b", '["a"]', '{"a": 1}', "a=1", "tcp://10.0.0.1:80", "%(message)s", "9" * 400]  # fmt: skip
DIRECTORIES = ("secrets_dir", "config_dir")


class Round:
    """One random world, made of one random number generator."""

    def __init__(self, rng: random.Random, folder: Path) -> None:
        self.rng = rng
        self.folder = folder
        self.secret = f"planted{rng.getrandbits(64):016x}"

    def build(self) -> None:
        """Put up the world: variables, files and folders."""
        for entry in self.folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        for name in [name for name in os.environ if name.upper().startswith("P8FS_")]:
            del os.environ[name]
        for _ in range(self.rng.randrange(6)):
            name, value = self.pair()
            variable = f"P8FS_{name.upper()}".replace("\x00", "").replace("=", "")
            os.environ[variable] = value.replace("\x00", "")
        for name in LOCATORS:
            if self.rng.random() < 0.3:
                os.environ[f"P8FS_{name.upper()}"] = str(self.place(name))
        if self.rng.random() < 0.6:
            self.write(self.folder / ".env", self.dotenv())

    def place(self, name: str) -> Path:
        """Make what a locator names, or not."""
        ending = self.rng.choice([".toml", ".yaml", ".txt"]) if name == "config_file" else ""
        path = self.folder / f"{name}{ending}"
        if self.rng.random() < 0.1:
            return path
        if name in DIRECTORIES and self.rng.random() < 0.95:
            path.mkdir()
            for _ in range(self.rng.randrange(4)):
                key, value = self.pair()
                self.write(path / f"P8FS_{key.upper()}".replace("/", "").replace("\x00", "")[:80], value)
        else:
            self.write(path, self.dotenv() if name == "env_file" else self.document(ending))
        return path

    def write(self, path: Path, text: str) -> None:
        """Write it in the right or the wrong encoding."""
        wrong = self.rng.random() < 0.05
        path.write_bytes(text.encode("utf-16" if wrong else "utf-8", "surrogatepass"))

    def pair(self) -> tuple[str, str]:
        """Return a name, often of a setting, and a value; a secret where one belongs."""
        if self.rng.random() < 0.35:
            return self.rng.choice(SECRETS), self.hidden()
        name = self.rng.choice([*names(), "pg_hots", "x", "pg", "", "api_service_host", "fuzz_hosts"])
        if self.rng.random() < 0.1:
            return name, f"postgresql://me:{self.secret}@db/app"
        return name, self.text()

    def hidden(self) -> str:
        form = self.rng.choice(["{}", "{}", " {} ", '["{}"]', '{{"key": "{}"}}', "user=me,key={}", "{},1", "[{}", "'{}", "*{}", "h:{}@db"])  # fmt: skip
        return self.around(form.format(self.secret))

    def text(self) -> str:
        return self.around(self.rng.choice(PLAIN))

    def around(self, text: str) -> str:
        if self.rng.random() < 0.6:
            return text
        return self.rng.choice(ODD) + text + self.rng.choice(ODD)

    def dotenv(self) -> str:
        """Return lines, most of which can be understood."""
        lines = []
        for _ in range(self.rng.randrange(6)):
            name, value = self.pair()
            quote = self.rng.choice(["", "", "'", '"'])
            end = quote if self.rng.random() < 0.9 else ""
            lines.append(f"{self.rng.choice(['', 'export ', '# '])}P8FS_{name.upper()}={quote}{value}{end}")
        return "\n".join(lines)

    def document(self, ending: str) -> str:
        sign, quote = ("=", json.dumps) if ending == ".toml" else (":", self.maybe_quoted)
        lines = []
        for _ in range(self.rng.randrange(6)):
            name, value = self.pair()
            if self.rng.random() < 0.15:
                lines.append("[pg]" if ending == ".toml" else "pg:\n  x: 1")
            lines.append(f"{name} {sign} {quote(value)}" if sign == "=" else f"{name}{sign} {quote(value)}")
        return "\n".join(lines)

    def maybe_quoted(self, value: str) -> str:
        return json.dumps(value) if self.rng.random() < 0.5 else value


class Listener(logging.Handler):
    """Keeps all that is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(logging.Formatter().format(record))


def outcome(listener: Listener) -> tuple[str, str]:
    """Load the settings as a service does; return what came of it, and all that could be seen of them."""
    try:
        settings = P8FSConfig()
        explained = [settings.explain(name) for name in names()]
        shown = [repr(settings), *(repr(settings.section(cls)) for cls in declared())]
        shown += [str(told) + repr(told) + json.dumps(told.as_dict()) for told in explained]
        return "valid", "".join([*shown, *listener.lines])
    except ConfigurationError as exc:
        dumped = repr(pickle.loads(pickle.dumps(exc)).__dict__) + repr(pickle.dumps(exc))  # noqa: S301
        chained = f"{exc.__cause__!r} {exc.__context__!r}"
        shown = [str(exc), repr(exc), dumped, chained, "".join(traceback.format_exception(exc))]
        return "refused", "".join([*shown, *listener.lines])


def fuzz(rounds: int, seed: int, report: Callable[[str], object] = lambda line: None) -> Counter[str]:
    """Return how many rounds ended how; raise AssertionError for what must not be, with the seed that shows it."""
    counted: Counter[str] = Counter()
    listener = Listener()
    logging.getLogger("p8fs_cluster").addHandler(listener)
    begun = time.monotonic()
    here = Path.cwd()
    try:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            for number in range(seed, seed + rounds):
                counted[one(number, Path(folder), listener)] += 1
                if number % 10_000 == 9_999:
                    report(f"{sum(counted.values()):,} rounds, {time.monotonic() - begun:.0f} s: {dict(counted)}")
    finally:
        os.chdir(here)
        logging.getLogger("p8fs_cluster").removeHandler(listener)
    return counted


def one(number: int, folder: Path, listener: Listener) -> str:
    """Run the round of one seed."""
    world = Round(random.Random(number), folder)
    world.build()
    secrets.forget()
    spelling.forget()
    listener.lines.clear()
    try:
        ended, seen = outcome(listener)
    except Exception as exc:
        raise AssertionError(f"seed {number}: {exc!r} is neither settings nor a ConfigurationError") from exc
    at = seen.find(world.secret)
    assert at < 0, f"seed {number}: a secret shows in …{seen[max(0, at - 200) : at + 100]}…"
    return ended


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    wanted, first = (*arguments, 0)[:2] if arguments else (100_000, 0)
    print("no fault found:", dict(fuzz(wanted, first, print)))
