"""How the programs are built: each in a folder of the cache, named after a hash of all that it is built of."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from servers import maven
from servers.cache import installed

SOURCES = Path(__file__).parent
# What the Java program reads and writes JSON with.
JACKSON = "2.20.1"


def python(program, *pins, arguments=()):
    """A program in the language of the tests, with libraries of its own."""

    def build(folder):
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--target", folder, *pins], check=True)

    def command():
        folder = installed(f"client-python-{digest(*pins)}", build)
        paths = f"{folder}{os.pathsep}{SOURCES / 'python'}"
        return [sys.executable, SOURCES / "python" / program, *arguments], {"PYTHONPATH": paths}

    return command


def java(version, program="Client"):
    """Apache Kafka's own, from Maven, under one of the Java programs."""
    project = maven.pom(
        {
            "org.apache.kafka:kafka-clients": version,
            "com.fasterxml.jackson.core:jackson-databind": JACKSON,
        }
    )
    sources = SOURCES / "java/Program.java", SOURCES / f"java/{program}.java"

    def download(folder):
        maven.download(project, folder)

    def command():
        libraries = installed(f"client-java-{version}-{digest(project)}", download) / "libs/*"

        def build(folder):
            options = ["--release", "17", "-nowarn", "-Xlint:-options", "-classpath", libraries, "-d", folder]
            subprocess.run(["javac", *options, *sources], check=True)

        classes = installed(f"client-java-{version}-{digest(project, *sources)}", build)
        options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        return ["java", *options, "-classpath", f"{classes}:{libraries}", program], {}

    return command


def node(name):
    """From npm, at the versions of its lock file."""
    source = SOURCES / name
    packages = source / "package.json", source / "package-lock.json"

    def download(folder):
        for file in packages:
            shutil.copy(file, folder)
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder, check=True)

    def command():
        folder = installed(f"client-{name}-{digest(*packages)}", download)
        return ["node", source / "client.js"], {"NODE_PATH": str(folder / "node_modules")}

    return command


def go(name):
    """One of the programs of a Go module."""
    module = SOURCES / "go"

    def build(folder):
        subprocess.run(["go", "build", "-o", folder / name, f"./{name}"], cwd=module, check=True)

    def command():
        files = [file for file in sorted(module.rglob("*")) if file.is_file()]
        return [installed(f"client-go-{name}-{digest(*files)}", build) / name], {}

    return command


def rust(name):
    """One of the programs of a Rust crate; librdkafka is compiled for it, too."""
    crate = SOURCES / "rust"

    def build(folder):
        cargo = ["cargo", "build", "--quiet", "--locked", "--target-dir", folder / "target"]
        subprocess.run(cargo, cwd=crate, env=os.environ | {"CARGO_PROFILE_DEV_OPT_LEVEL": "0"}, check=True)
        for program in (crate / "src/bin").iterdir():
            shutil.move(folder / "target/debug" / program.stem, folder)
        shutil.rmtree(folder / "target")

    def command():
        files = [crate / "Cargo.lock", crate / "Cargo.toml", *sorted(crate.rglob("src/**/*.rs"))]
        return [installed(f"client-rust-{digest(*files)}", build) / name], {}

    return command


def digest(*parts):
    """Of texts, and of what is in files."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part.read_bytes() if isinstance(part, Path) else part.encode())
        hashed.update(b"\0")
    return hashed.hexdigest()[:16]
