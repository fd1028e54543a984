"""Progress of the commands where no terminal is: lines in a log file, nothing for what is over at once."""

from videoar.cli.progress import Jobs


def test_lines_with_the_time_that_is_left(capsys):
    with Jobs(seconds=0.0) as jobs:
        jobs.show("reading", 0, 4)
        jobs._began["reading"] -= 30
        jobs.show("reading", 3, 4)
        jobs.show("unknown", 7, None)
        jobs.show("games", 1, 2, "games (pong)")
        jobs.say("dropped tetris")
    shown = capsys.readouterr()
    assert shown.out == "", "stdout holds results alone"
    assert shown.err.splitlines() == [
        "reading: 0/4", "reading: 3/4, 10 s left", "unknown: 7", "games (pong): 1/2", "dropped tetris",
    ]  # fmt: skip


def test_what_is_over_at_once_says_nothing(capsys):
    with Jobs(seconds=10.0) as jobs:
        for n in range(100):
            jobs.show("reading", n, 100)
    assert capsys.readouterr().err == ""
