from tgscale.train.option_words import reworded

PROG = "tgscale train [CONFIG.yaml | --resume RUN] [--json]"
SUGGESTED = """Unrecognized options: --epochs, 3
Perhaps you meant:
    --static.epochs INT
        Pre-training epochs. (default: 10)
    --train.epochs INT
        Passes over the training events, at most.
        (default: 6)
For full helptext, run tgscale train [CONFIG.yaml | --resume RUN] [--json] --help"""


def test_a_command_can_be_pasted():
    assert reworded(f"For full helptext, see {PROG} --help", PROG) == "For full helptext, run tgscale train --help"
    wrapped = PROG.replace(" RUN", "\n    RUN")
    text = f"Missing from {PROG}:\n    --run PATH\nFor full helptext, run:\n    {wrapped} --help"
    expected = "Missing from tgscale train:\n    --run PATH\nFor full helptext, run tgscale train --help"
    assert reworded(text, PROG) == expected
    assert reworded("For full helptext, see x --help", None) == "For full helptext, run x --help"


def test_numbers_that_are_none():
    text = "Error parsing --train.epochs: invalid literal for int() with base 10: 'three'"
    assert reworded(text, None) == "Error parsing --train.epochs: 'three' is no whole number"
    text = "Error parsing --train.lr: could not convert string to float: 'fast'"
    assert reworded(text, None) == "Error parsing --train.lr: 'fast' is no number"


def test_options_of_training_are_suggested_first():
    assert reworded(SUGGESTED, PROG).splitlines() == [
        "Unrecognized options: --epochs, 3",
        "Perhaps you meant:",
        "    --train.epochs INT",
        "        Passes over the training events, at most.",
        "        (default: 6)",
        "    --static.epochs INT",
        "        Pre-training epochs. (default: 10)",
        "For full helptext, run tgscale train --help",
    ]
    others = SUGGESTED.replace("--train.", "--eval.")
    assert reworded(others, None) == others
