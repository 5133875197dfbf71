"""A model of one's own is known by its name, to the configuration and to the engine."""

import pytest

import tgscale
from tgscale.errors import ConfigError
from tgscale.models.config import OPTIONS
from tgscale.models.stream_models import STREAM_MODELS, register
from tgscale.models.tgn import TGN


class Own(TGN):
    pass


@pytest.fixture
def own(monkeypatch):
    monkeypatch.setitem(STREAM_MODELS, "own", None)  # so that both are as they were afterwards
    monkeypatch.setitem(OPTIONS, "own", ())
    del STREAM_MODELS["own"], OPTIONS["own"]
    register("own", Own, ["heads", "dropout", "score", "time_encoding", "updater"])


@pytest.mark.usefixtures("own")
def test_a_registered_model_is_trained_and_evaluated(tmp_path):
    tgscale.save_stream(tgscale.generate_stream(events=600, nodes=60, edge_features=2), tmp_path / "data")
    config = tgscale.default_config(tmp_path / "data", tmp_path / "run", model="own")
    config = tgscale.replace(config, train__epochs=1, model__dim=8, quiet=True)
    result = tgscale.train_stream(config)
    again = tgscale.evaluate(tmp_path / "run", quiet=True)
    assert result["model"] == "own"
    assert again["metrics"]["mrr"] == result["test"]["mrr"]


@pytest.mark.usefixtures("own")
def test_a_name_is_taken_once():
    with pytest.raises(ConfigError, match="there is a model 'own' already"):
        register("own", Own)


@pytest.mark.usefixtures("own")
def test_an_option_that_it_does_not_have_is_refused(tmp_path):
    config = tgscale.default_config(tmp_path, tmp_path / "run", model="own")
    with pytest.raises(ConfigError, match=r"model\.mails is 3, and model own has no such option"):
        tgscale.replace(config, model__mails=3)
