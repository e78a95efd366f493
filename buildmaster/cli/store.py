"""The command `store`: what an operator does with the farm's files as such."""

import time

import click

from buildd.settings import parse_duration
from buildmaster import inventory
from buildmaster.cli.farms import farm_of
from buildmaster.cli.group import Session, json_option, pass_session
from buildmaster.cli.output import Column
from buildmaster.cli.progress import Progress
from buildmaster.cli.text import count, size
from buildmaster.inventory import Finding, How, Report, Wrong


def _age(word: str) -> float:
    """Take a duration of at least an hour, in seconds. A type of parameter, for click."""
    try:
        seconds = parse_duration(word)
    except ValueError as error:
        raise click.BadParameter(f"{word!r} {error}") from None
    if seconds < inventory.YOUNG_S:
        raise click.BadParameter("what is younger than an hour may be about to be used")
    return seconds


@click.group()
def store() -> None:
    """Look after the farm's files.

    \b
    Example:
      buildmaster store check --json
    """


@store.command()
@click.option("--quick", is_flag=True, help="Compare sizes only; contents are not read.")
@click.option("--delete-unreferenced", is_flag=True, help="Delete the files that nothing refers to.")
@click.option(
    "--older-than", metavar="AGE", type=_age, default="1h", show_default=True,
    help="Younger files are not taken for unreferenced.",
)  # fmt: skip
@json_option
@pass_session
def check(session: Session, /, *, quick: bool, delete_unreferenced: bool, older_than: float) -> int:
    """Compare the files with what the database says of them. A master may run meanwhile.

    Told are files that are missing, that are damaged (another size, SHA-256 or SHA-1), and that nothing refers to: what
    is left of refused results, and of chroots that were replaced. Exit status 1 when a file is missing or damaged.

    \b
    Example:
      buildmaster store check --delete-unreferenced --older-than 1d
    """
    how = How(quick, delete_unreferenced, older_than)
    with farm_of(session) as farm, Progress(session.output, "checking the store") as progress:

        def tell(part: float, so_far: Report) -> None:
            progress.show(part, f"{count(so_far.files, 'file')}, {size(so_far.size)}")

        report = inventory.check(farm, how, time.time, tell)
    bad = bool(report.of(Wrong.MISSING) or report.of(Wrong.DAMAGED))
    if session.output.as_json:
        session.output.document(_document(report))
        return int(bad)
    rows = [(each.wrong.value, each.sha256, size(each.size), _remark(each)) for each in report.findings]
    columns = [Column("what"), Column("sha256"), Column("size", right=True), Column("remarks", wide=True)]
    if rows:
        session.output.table(columns, rows, "", whole_lines=True)
    numbers = ", ".join(f"{len(report.of(wrong))} {wrong}" for wrong in Wrong)
    session.output.say(f"{count(report.files, 'file')} of {size(report.size)}: {numbers}")
    if report.of(Wrong.UNREFERENCED) and not delete_unreferenced:
        session.output.hint("--delete-unreferenced deletes what nothing refers to.")
    return int(bad)


def _remark(finding: Finding) -> str:
    """What else is to be said of a file."""
    remarks = [finding.why, "deleted" if finding.deleted else "", "; ".join(finding.used_by)]
    return "; ".join(filter(None, remarks))


def _document(report: Report) -> dict[str, object]:
    findings = [
        {
            "wrong": each.wrong.value,
            "sha256": each.sha256,
            "size": each.size,
            "why": each.why,
            "used_by": list(each.used_by),
            "deleted": each.deleted,
        }
        for each in report.findings
    ]
    return {"files": report.files, "size": report.size, "findings": findings}
