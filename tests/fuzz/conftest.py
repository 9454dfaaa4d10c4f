"""Options and the count of the fuzz tests."""

from tests.fuzz import inputs


def pytest_terminal_summary(terminalreporter):
    if inputs.counts:
        each = ", ".join(f"{count} {name}" for name, count in sorted(inputs.counts.items()))
        terminalreporter.write_line(
            f"fuzz: {sum(inputs.counts.values())} inputs, seed {inputs.SEED} ({each})"
        )
