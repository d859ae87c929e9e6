"""`xalign`: one verb a stage, and the verbs that run them all."""

from __future__ import annotations

import functools
import json
import sys
import traceback
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from xalign_dist.config import RunConfig, load_config
from xalign_dist.corpora.languages import normalize_language
from xalign_dist.errors import ConfigError, XalignError
from xalign_dist.pipeline import files
from xalign_dist.pipeline.console import Screen

app = typer.Typer(
    help="Noisy multilingual text in; a better-aligned encoder, an audited corpus and the evidence out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _language(code: str | None) -> str | None:
    """A wrong code is said before anything starts."""
    return None if code is None else normalize_language(code)


Out = Annotated[str, typer.Option("--out", help="Folder for the results.")]
Model = Annotated[
    str, typer.Option("--model", help="Hub id, local directory, or builtin:e5-small[?layers=N].")
]
Columns = Annotated[str | None, typer.Option("--columns", help="ours=theirs,... e.g. src=english,tgt=german")]
Address = Annotated[
    str | None, typer.Option("--address", help="Ray cluster; default: embedded on this machine.")
]
Overrides = Annotated[list[str] | None, typer.Argument(help="Settings: section.key=value ...")]
Config = Annotated[str, typer.Argument(help="YAML config; `xalign schema` lists every setting.")]
SrcLang = Annotated[
    str | None,
    typer.Option("--src-lang", help="Language of src (--source); default: its column.", callback=_language),
]
TgtLang = Annotated[
    str | None,
    typer.Option("--tgt-lang", help="Language of tgt (--target); default: its column.", callback=_language),
]
Seed = Annotated[int, typer.Option("--seed", help="Of every random choice.")]

_state = {"debug": False}


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")] = False,
) -> None:
    _state["debug"] = debug


def _settings(path: str | None, overrides: list[str] | None, address: str | None) -> RunConfig:
    extra = [f"runtime.address={address}"] if address else []
    return load_config(path, [*(overrides or []), *extra])


def _say(result: dict[str, Any], out: str) -> None:
    screen = Console(highlight=False)
    for key, value in result.items():
        shown = (
            f"{value:,.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
        )
        screen.print(f"  {key}: {escape(str(shown))}")
    screen.print(f"  results: {escape(out)}")


def _audited(result: dict[str, Any], out: str) -> None:
    from xalign_dist.pipeline.summary import show_audit

    show_audit(out, Screen())
    _say(result, out)


@app.command()
def quickstart(
    overrides: Overrides = None, out: Out = "runs/quickstart", seed: Seed = 0, address: Address = None
) -> None:
    """The whole system on real text that comes with PyPI packages, checked against a hidden truth."""
    from xalign_dist.pipeline.quickstart import quickstart as work
    from xalign_dist.pipeline.summary import show_summary

    extra = [f"runtime.address={address}"] if address else []
    screen = Screen()
    show_summary(work(out, seed, [*(overrides or []), *extra], screen), screen)


@app.command()
def run(config: Config, overrides: Overrides = None, out: Out = "runs/run", address: Address = None) -> None:
    """Clean, score, mine, train, evaluate and report; finished stages are skipped."""
    from xalign_dist.pipeline.rounds import run_all
    from xalign_dist.pipeline.summary import show_summary

    settings, screen = _settings(config, overrides, address), Screen()
    if not settings.corpora:
        raise ConfigError(f"{config}: no corpora", "list what to read under `corpora`")
    show_summary(run_all(settings, out, screen), screen)


@app.command()
def clean(
    source: Annotated[str, typer.Argument(help="A config (.yaml) with corpora, or one file of pairs.")],
    overrides: Overrides = None,
    out: Out = "clean",
    columns: Columns = None,
    kind: Annotated[str, typer.Option("--kind", help="pairs or sentences, for a file.")] = "pairs",
    src_lang: SrcLang = None,
    tgt_lang: TgtLang = None,
    address: Address = None,
) -> None:
    """Normalise and filter corpora; every rejected row is kept with its reason."""
    is_config = source.endswith((".yaml", ".yml"))
    settings = _settings(source if is_config else None, overrides, address)
    corpora = settings.corpora
    if not is_config:
        mapping = files.parse_columns(columns)
        corpora = [files.plain_corpus(source, kind, mapping, src_lang=src_lang, tgt_lang=tgt_lang)]
    counts = files.clean_files(corpora, settings.cleaning, out, settings.runtime, Screen())
    flat = {f"{k} {name}": n for k, c in counts.items() for name, n in c.items() if name != "rejected"}
    reasons = {f"{k} rejected, {r}": n for k, c in counts.items() for r, n in c["rejected"].items()}
    _say(flat | reasons, out)


@app.command()
def score(
    model: Model,
    pairs: Annotated[str, typer.Option("--pairs", help="Parallel corpus, any readable format.")],
    out: Out,
    overrides: Overrides = None,
    columns: Columns = None,
    src_lang: SrcLang = None,
    tgt_lang: TgtLang = None,
    address: Address = None,
) -> None:
    """How clean is each parallel pair? Writes scored pairs and audit.json."""
    settings = _settings(None, overrides, address)
    mapping = files.parse_columns(columns)
    result = files.score_file(
        model, pairs, mapping, out, settings, Screen(), src_lang=src_lang, tgt_lang=tgt_lang
    )
    _audited(result, out)


@app.command()
def mine(
    model: Model,
    source: Annotated[str, typer.Option("--source", help="Sentences of one language.")],
    target: Annotated[str, typer.Option("--target", help="Sentences of the other.")],
    out: Out,
    overrides: Overrides = None,
    columns: Columns = None,
    src_lang: SrcLang = None,
    tgt_lang: TgtLang = None,
    address: Address = None,
) -> None:
    """Find the translations in two piles of sentences, with a predicted precision."""
    settings = _settings(None, overrides, address)
    mapping = files.parse_columns(columns)
    result = files.mine_files(model, source, target, mapping, out, settings, Screen(), src_lang, tgt_lang)
    _audited(result, out)


@app.command()
def encode(
    model: Model,
    source: Annotated[str, typer.Option("--input", help="Sentences, any readable format.")],
    out: Out,
    overrides: Overrides = None,
    columns: Columns = None,
    address: Address = None,
) -> None:
    """Embed sentences: id and embedding in Parquet."""
    settings = _settings(None, overrides, address)
    _say(files.encode_file(model, source, files.parse_columns(columns), out, settings, Screen()), out)


@app.command()
def train(
    config: Config,
    pairs: Annotated[
        str, typer.Option("--pairs", help="What `xalign score` or `mine` wrote, or plain pairs.")
    ],
    overrides: Overrides = None,
    out: Out = "runs/train",
    columns: Columns = None,
    address: Address = None,
) -> None:
    """Train an encoder on pairs; a killed run continues with the same command."""
    from xalign_dist.pipeline.train_file import train_file

    settings = _settings(config, overrides, address)
    _say(train_file(pairs, files.parse_columns(columns), out, settings, Screen()), out)


@app.command()
def evaluate(
    model: Annotated[list[str], typer.Option("--model", help="Give it once per model.")],
    suite: Annotated[str, typer.Option("--suite", help="Suite YAML.")],
    out: Annotated[str, typer.Option("--out", help="metrics.json to write.")] = "metrics.json",
    overrides: Overrides = None,
    seed: Seed = 0,
    address: Address = None,
) -> None:
    """Measure models side by side on a suite, with intervals; the first is tested against the others."""
    from xalign_dist.pipeline.evaluate_file import evaluate_file

    settings = _settings(None, [*(overrides or []), f"seed={seed}"], address)
    evaluate_file(model, suite, out, settings, Screen())


@app.command()
def report(
    run_dir: Annotated[str, typer.Argument(metavar="RUN", help="Run directory.")],
    against: Annotated[str | None, typer.Option("--against", help="Another run to compare with.")] = None,
) -> None:
    """Write report.html anew; --against exits 1 on a significant loss."""
    from xalign_dist.pipeline.report import compare_with, report_directory

    screen = Screen()
    screen.say(f"report: {escape(report_directory(run_dir))}")
    if against is not None and compare_with(run_dir, against, screen):
        raise typer.Exit(1)


@app.command()
def doctor(out: Out = ".") -> None:
    """What this machine has, what is missing, and how to mend it; exit 1 when something is broken."""
    from xalign_dist.pipeline.doctor import examine

    findings = examine(out)
    table = Table("", "what", "found", "remedy")
    marks = {True: "[green]ok[/]", False: "[red]no[/]", None: "[yellow]--[/]"}
    for f in findings:
        table.add_row(marks[f.ok], f.name, escape(f.what), escape(f.remedy))
    Console(highlight=False).print(table)
    if any(f.ok is False for f in findings):
        raise typer.Exit(1)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the config: every setting with unit, range and default."""
    sys.stdout.write(json.dumps(RunConfig.model_json_schema(), indent=1) + "\n")


def _add_plugins(arguments: list[str]) -> None:
    """Verbs of the layers above (jobs, tuning) announce themselves, so that nothing here imports them.

    They are loaded only when called for: each brings Ray along, which takes seconds.
    """
    verb = next((a for a in arguments if not a.startswith("-")), None)
    for point in entry_points(group="xalign.verbs"):
        if verb in (None, point.name):
            loaded = point.load()
            settings = getattr(loaded, "context_settings", None)
            app.command(name=point.name, context_settings=settings)(loaded)


@functools.cache
def command_of(verb: str) -> Any:
    """The click command of ``verb``, with its parameters."""
    _add_plugins([verb])
    # Typer's annotation is of any command; with several verbs it is a group.
    return typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]


def main() -> None:
    """The console script: errors of the user's are one message, never a traceback (without --debug)."""
    try:
        _add_plugins(sys.argv[1:])
        app(standalone_mode=True)
    except XalignError as err:
        if _state["debug"]:
            traceback.print_exc()
        Console(stderr=True, highlight=False).print(f"[bold red]error:[/] {escape(str(err))}", soft_wrap=True)
        raise SystemExit(err.exit_code) from None
