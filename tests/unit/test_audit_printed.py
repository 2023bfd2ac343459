"""What `live audit` prints: whole lines where no screen has a width, and no more than is read."""

import pytest

from live.ledger.audit.findings import Finding, finding
from live.ledger.audit.run import AuditedPayments, AuditedShows, AuditReport
from live.run.commands.audit import TOLD_MAX, TOLD_OF_A_CODE_MAX, print_audit


def printed(findings: list[Finding], capsys: pytest.CaptureFixture[str]) -> list[str]:
    report = AuditReport(
        ok=not findings,
        offers=(),
        payments=AuditedPayments(captured=0, refunded=0, unmatched=0),
        in_flight=(),
        findings=tuple(one.line for one in findings),
        mend=tuple(findings),
        shows=AuditedShows(proven=1, unchanged=0),
    )
    print_audit(report)
    return capsys.readouterr().out.splitlines()


def test_sentence_is_not_broken_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Or nobody could search it for the words that the documents name."""
    one = finding("entry_aside", "P1", "outbox entry s 1-1", "x" * 300)

    lines = printed([one], capsys)

    assert f"FINDING entry_aside: {one.line}" in lines
    assert f"  {one.who}: {one.how}" in lines


def test_many_findings_are_counted_by_code(capsys: pytest.CaptureFixture[str]) -> None:
    """The first of each are shown, and the rare one is not lost among the many."""
    many = [finding("payment_unowned", "P5", f"payment {n}", "x") for n in range(TOLD_MAX)]
    rare = finding("oversold", "P1", "offer lamp", "sold 2 of 1")

    lines = printed([*many, rare], capsys)

    shown = [line for line in lines if line.startswith("FINDING payment_unowned")]
    assert len(shown) == TOLD_OF_A_CODE_MAX
    assert f"FINDING oversold: {rare.line}" in lines
    assert f"  {TOLD_MAX} payment_unowned" in lines and "  1 oversold" in lines


def test_few_findings_are_all_shown(capsys: pytest.CaptureFixture[str]) -> None:
    few = [finding("payment_unowned", "P5", f"payment {n}", "x") for n in range(TOLD_MAX)]

    lines = printed(few, capsys)

    assert len([line for line in lines if line.startswith("FINDING")]) == TOLD_MAX
