import pytest

from tgscale.cli.table import print_metrics

LINK = {"name": "mrr49", "negatives": 49, "population": "destinations", "population_size": 20, "exclude_own": False}


def test_cells_and_columns(capsys):
    protocol = LINK | {"negatives": 1000, "exclude_own": True}
    print_metrics("test", {"mrr": 0.5, "mrr_new_nodes": None}, {"recency": {"mrr": 0.25}}, protocol)
    title, _, table = capsys.readouterr().out.partition("┏")
    assert " ".join(title.split()) == "test: mrr49, but with 1,000 negatives from destinations"
    _, head, _, own, rule, _ = table.splitlines()
    assert head.split("┃")[2:4] == ["    MRR ", " MRR, new nodes "]
    assert own.split() == ["│", "tgn", "│", "0.5000", "│", "-", "│"]
    assert rule.split() == ["│", "recency", "│", "0.2500", "│", "-", "│"]
    print_metrics("test", {"mrr": 0.5}, {}, LINK)
    assert " ".join(capsys.readouterr().out.split()).startswith("test: mrr49, 49 negatives from destinations")


@pytest.mark.parametrize("option", ["--eval.exclude-own", "--exclude-own"])
def test_a_note_names_the_option_of_its_command(capsys, option):
    print_metrics("test", {"mrr": 0.5}, {}, LINK, exclude_own=option)
    assert f"caps the MRR; {option} leaves it out." in " ".join(capsys.readouterr().out.split())
