"""
`python -m fuzz install`: installs cargo-fuzz, and builds the targets.
`python -m fuzz [--seconds 60] [TARGET...]`: runs these targets, or all, each so long, as many at once as there are
cores. `wire_message` runs once for each Kafka API; `wire_message:Fetch` for one. An input that fails is in
tests/fuzz/artifacts, and is printed; inputs that led further stay in tests/fuzz/corpus.
"""

import argparse
import os
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from servers.cache import installed

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CARGO_FUZZ = "0.13.1"
# What real clients sent, each with its length before it.
FRAMES = ROOT / "shared/wire/tests/frames"
GOLDEN = ROOT / "tests/golden"
# For the compiler's sanitizers, which the pinned compiler has but does not give to everyone.
ENVIRONMENT = os.environ | {"RUSTC_BOOTSTRAP": "1"}
BY_API = "wire_message"
SEEDS = {
    "archive_read": "archive-*",
    "catalog_read": "[cp]a[tg]*",
    "checkpoint_read": "*.ckpt",
    "command_read": "commands-*",
    "document_read": "*.json",
    "place_head": "place-head-*",
    "segment_list_read": "*.list",
    "segment_open": "*.seg",
    "state_read": "lane-state-*",
    "wal_scan": "*.wal",
}
LIMITS = ["-timeout=20", "-rss_limit_mb=2048", "-malloc_limit_mb=512", "-print_final_stats=1"]


def install():
    def build(folder):
        cargo = ["cargo", "install", "--quiet", "--locked", "--root", folder, "cargo-fuzz", "--version", CARGO_FUZZ]
        subprocess.run(cargo, check=True)

    cargo_fuzz = installed(f"cargo-fuzz-{CARGO_FUZZ}", build) / "bin/cargo-fuzz"
    subprocess.run(
        [cargo_fuzz, "fuzz", "build", "--release", "--fuzz-dir", HERE], cwd=ROOT, env=ENVIRONMENT, check=True
    )


def program(target):
    folder = Path(os.environ.get("CARGO_TARGET_DIR", HERE / "target"))
    [found] = folder.glob(f"*/release/{target}")
    return found


def targets():
    """Each with its API, if it has one."""
    for source in sorted((HERE / "fuzz_targets").glob("*.rs")):
        if source.stem != BY_API:
            yield source.stem, None
            continue
        named = subprocess.run([program(BY_API)], env=environment(None), capture_output=True, check=True, text=True)
        yield from ((BY_API, api) for api in named.stdout.split())


def environment(api):
    kept = {name: value for name, value in ENVIRONMENT.items() if name != "CHRONIK_FUZZ_API"}
    return kept | ({"CHRONIK_FUZZ_API": api} if api else {})


def name(target, api):
    return f"{target}:{api}" if api else target


def seeds(target, api):
    if target.startswith("wire_"):
        for frame in FRAMES.glob(f"*/{api or ''}*.req.bin"):
            request = frame.read_bytes()[4:]
            yield request if api is None else request[3:4] + body(request)
    for file in GOLDEN.glob(SEEDS.get(target, "nothing")):
        yield file.read_bytes()


def body(request):
    """Behind its header; one that is flexible has a byte more, which a mutation takes away."""
    [client_id] = struct.unpack_from(">h", request, 8)
    return request[10 + max(client_id, 0) :]


def run(target, api, seconds):
    """How it ended, and the end of what it said."""
    corpus, artifacts = HERE / "corpus" / name(target, api), HERE / "artifacts" / name(target, api)
    for folder in (corpus, artifacts):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target, api)):
        (corpus / f"seed-{number}").write_bytes(seed)
    arguments = [*LIMITS, f"-max_total_time={seconds}", f"-artifact_prefix={artifacts}/", corpus]
    done = subprocess.run([program(target), *arguments], env=environment(api), capture_output=True, check=False)
    lines = done.stderr.decode(errors="replace").splitlines()
    runs = next((line.split()[-1] for line in lines if line.startswith("stat::number_of_executed_units")), "?")
    print(f"{name(target, api)}: {runs} runs, {'failed' if done.returncode else 'fine'}", flush=True)
    return done.returncode == 0, lines[-60:]


def main():
    if sys.argv[1:] == ["install"]:
        return install()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("targets", nargs="*")
    asked = parser.parse_args()
    wanted = [found for found in targets() if not asked.targets or {name(*found), found[0]} & set(asked.targets)]
    if not wanted:
        parser.error(f"no target is named {' or '.join(asked.targets)}")
    with ThreadPoolExecutor(os.cpu_count()) as cores:
        outcomes = list(cores.map(lambda found: run(*found, asked.seconds), wanted))
    for found, (is_fine, lines) in zip(wanted, outcomes, strict=True):
        if not is_fine:
            print(f"── {name(*found)}", *lines, sep="\n")
    return 0 if all(is_fine for is_fine, _ in outcomes) else 1


sys.exit(main())
