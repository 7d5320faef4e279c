"""`recon weights`: lists the weights that are needed and there, downloads them, and compares their hashes."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recon_lib.progress import Progress
from recon_lib.weights import fetch, store

DONE = 0


def list_weights(options: argparse.Namespace) -> int:
    """`recon weights list`."""
    folder = _folder(options)
    for what in store.WHATS:
        print(f"recon weights fetch {what}:\n{_needs(folder, what)}")
    print(f"folder: {folder}")
    return DONE


def fetch_weights(options: argparse.Namespace) -> int:
    """`recon weights fetch`. Raises ValueError (DownloadError, WeightsError) for what goes wrong."""
    folder, revisions = _folder(options), dict(_parse_revision(item) for item in options.revision)
    print(_needs(folder, options.what), flush=True)
    with _bar() as progress:
        fetched = fetch.fetch(folder, revisions, progress, options.what)
    for id, revision in fetched.items():
        print(f"fetched {id} {revision}")
    print(f"whole: {folder}")
    return DONE


def verify_weights(options: argparse.Namespace) -> int:
    """`recon weights verify`. Raises WeightsError for files that are missing or changed."""
    folder = _folder(options)
    with _bar() as progress:
        store.verify(folder, progress, options.what)
    print(f"ok: every file of {options.what} in {folder} has the sha256 of its {store.LOCK}")
    return DONE


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declares the actions of `recon weights`; the parsed options then have the action's function as `command`."""
    actions = command.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="show what is needed, under which licence, and what is there")
    fetching = actions.add_parser("fetch", help="download what is missing; continues an interrupted download")
    verifying = actions.add_parser("verify", help="hash every file and compare it with weights.json")
    for action, called in ((listing, list_weights), (fetching, fetch_weights), (verifying, verify_weights)):
        action.set_defaults(command=called)
        action.add_argument("--folder", metavar="DIR", help="default: RECON_WEIGHTS, or weights/ in the repository")
    for action in (fetching, verifying):
        action.add_argument(
            "what",
            nargs="?",
            default="reconviagen",
            choices=store.WHATS,
            help="reconviagen (default), photos: masks and features of plain photos, or isnet: masks under an unclear licence",
        )
    fetching.add_argument(
        "--revision",
        action="append",
        default=[],
        metavar="ID=REVISION",
        help="fetch a revision other than the pinned one",
    )


def _folder(options: argparse.Namespace) -> Path:
    return Path(options.folder).expanduser().absolute() if options.folder else store.folder()


def _parse_revision(item: str) -> tuple[str, str]:
    id, equals, revision = item.partition("=")
    if not (id and equals and revision):
        raise ValueError(f"--revision: got {item!r}, needed ID=REVISION")
    return id, revision


def _needs(folder: Path, what: str) -> str:
    """The table of weights, four lines per row."""
    there = store.provenance(folder) if (folder / store.LOCK).exists() else {}
    return "\n".join(
        f"{need.id}: {need.purpose}, {need.size_gb:.2g} GB\n  licence: {need.licence}\n"
        f"  pinned: {need.revision or 'main at the first download'}\n  there: {there.get(need.id, 'not fetched')}"
        for need in store.table(what)
    )


@contextmanager
def _bar() -> Iterator[Progress]:
    from tqdm import tqdm

    with tqdm(total=100, bar_format="{desc:48.48} {percentage:3.0f}% |{bar:30}| {elapsed}<{remaining}") as bar:

        def progress(share: float, what: str) -> None:
            bar.set_description_str(what, refresh=False)
            bar.update(100 * share - bar.n)

        yield progress
