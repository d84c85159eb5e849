"""The tables that data_prep prints at its end."""

import shutil
import textwrap
from collections import Counter

from sample_text import printable

from codelm.config.data import DataConfig
from codelm.data.explain import Explanation
from codelm.data.manifest import Manifest
from codelm.data.prepare import Prepared
from codelm.data.report.page import REPORT_FILE
from codelm.data.survey import Survey

_HEADER = f"{'language':<18}{'files':>9}{'MB':>9}{'tokens':>13}{'B/token':>9}{'samples':>10}{'held out':>10}"


def print_prepared(prepared: Prepared) -> None:
    """What the corpus holds, what was dropped, and where it is."""
    manifest = prepared.manifest
    train, validation = manifest.splits["train"], manifest.splits["validation"]
    print(_HEADER)
    totals = [0, 0, 0, 0, 0]
    for language in sorted({*train, *validation}, key=lambda name: -train[name].bytes if name in train else 0):
        stream, held_out = train.get(language), validation.get(language)
        figures = [
            stream.files if stream else 0,
            stream.bytes if stream else 0,
            stream.tokens if stream else 0,
            stream.samples if stream else 0,
            held_out.samples if held_out else 0,
        ]
        totals = [total + figure for total, figure in zip(totals, figures, strict=True)]
        print(_row(language, *figures))
    print(_row("all", *totals))
    _print_dropped(manifest.dropped)
    _print_secrets(manifest)
    state = "already prepared" if prepared.reused else "prepared"
    tokenizer = manifest.tokenizer
    print(f"{state}: {prepared.folder} (samples of {manifest.max_seq_len} tokens, {manifest.dtype};")
    print(
        f"  tokenizer of {tokenizer.vocab_size:,} tokens, {tokenizer.model_sha256[:12]}; corpus {manifest.hash[:12]})"
    )
    print(f"report: {prepared.folder / REPORT_FILE}")
    if prepared.reused:
        print("the sources were not read again; to take in what changed there, name another output_folder")


def print_survey(survey: Survey, config: DataConfig) -> None:
    """What a preparation would keep and drop."""
    print(f"{'language':<18}{'files':>9}{'MB':>9}{'held out files':>16}")
    train, validation = survey.kept["train"], survey.kept["validation"]
    for language in sorted({*train, *validation}, key=lambda name: -train.get(name, (0, 0))[1]):
        files, size = train.get(language, (0, 0))
        print(f"{language:<18}{files:>9,}{size / 1e6:>9.1f}{validation.get(language, (0, 0))[0]:>16,}")
    _print_dropped(survey.dropped)
    tokenizer = config.tokenizer
    source = f"the tokenizer {tokenizer.path}" if tokenizer.train is None else "a new tokenizer"
    print(f"dry run: nothing was written; {config.output_folder} would get these with {source}")
    if config.dedup.near is not None:
        print("near duplicates were not looked for; preparing drops them too")


def print_explanation(explanation: Explanation) -> None:
    """What every rule found in one file, and which one drops it."""
    verdict = f"dropped: {explanation.reason}" if explanation.reason else "kept, unless it is a copy of another file"
    of = f" of {printable(explanation.repository)}" if explanation.repository else ""
    print(f"{printable(explanation.file)}{of}: {verdict}")
    print(f"  language {explanation.language or 'none of the 20'}, licence {explanation.licence or 'unknown'}")
    for finding in explanation.findings:
        mark = "drops" if finding.drops else ""
        found = (
            "-"
            if finding.found is None
            else f"{finding.found:.4g}"
            if isinstance(finding.found, float)
            else finding.found
        )
        found = printable(str(found))
        bound = "" if finding.bound is None else f"{finding.bound:g}"
        print(f"  {finding.rule:<22}{found:<34}{bound:<12}{mark:<7}{finding.setting or ''}".rstrip())


def _print_secrets(manifest: Manifest) -> None:
    found: Counter[str] = Counter()
    for kinds in manifest.secrets.values():
        found.update(kinds)
    policies = manifest.settings["secrets"]
    rules = f"policy {policies['policy']}, personal {policies['personal']}"
    listed = ", ".join(f"{kind} {number:,}" for kind, number in found.most_common()) or "none found"
    print(textwrap.fill(f"secrets and personal data ({rules}): {listed}", 119, subsequent_indent="  "))
    for benchmark, entry in manifest.contamination.items():
        print(f"evaluation problems: {entry['problems_found']:,} of {benchmark} in {entry['files']:,} files, dropped")


def _row(language: str, files: int, size: int, tokens: int, samples: int, held_out: int) -> str:
    ratio = f"{size / tokens:.2f}" if tokens else "-"
    return f"{language:<18}{files:>9,}{size / 1e6:>9.1f}{tokens:>13,}{ratio:>9}{samples:>10,}{held_out:>10,}"


def _print_dropped(dropped: dict[str, dict[str, int]]) -> None:
    print("\ndropped files by reason:" if dropped else "\nno file was dropped")
    width = max(60, shutil.get_terminal_size((120, 24)).columns)
    by_number = sorted(dropped.items(), key=lambda item: -sum(item[1].values()))
    for language, reasons in by_number:
        listed = ", ".join(f"{reason} {files:,}" for reason, files in Counter(reasons).most_common())
        line = f"{language:<18}{sum(reasons.values()):>9,}  {listed}"
        print(textwrap.fill(line, width, subsequent_indent=" " * 29, break_on_hyphens=False))
    print()
