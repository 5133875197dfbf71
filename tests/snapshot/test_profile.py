import json

import pytest

from tgscale.errors import ConfigError
from tgscale.snapshot.profile import Profile, profile_names, read_profile


def test_reads_what_is_given(tmp_path):
    file = tmp_path / "h200.yaml"
    file.write_text("coefficients: [1.0e-3, 0, 2.0e-11, 0, 1.0e-12]\noverlap: 0.8\nmachine-latency: 1.0e-5\n")
    profile, given = read_profile(file)
    assert profile == Profile(coefficients=(1e-3, 0, 2e-11, 0, 1e-12), overlap=0.8, machine_latency=1e-5)
    assert given == {"coefficients", "overlap", "machine_latency"} <= set(profile_names())


def test_json_is_yaml(tmp_path):
    file = tmp_path / "p.json"
    file.write_text(json.dumps({"hoisted_share": 0.5, "parameter_bytes": 4096}))
    assert read_profile(file) == (
        Profile(hoisted_share=0.5, parameter_bytes=4096),
        {"hoisted_share", "parameter_bytes"},
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bandwith: 3", "bandwith is unknown"),
        ("coefficients: [1, 2]", "five numbers"),
        ("coefficients: [1, 2, 3, 4, -5]", "five numbers"),
        ("coefficients: [0, 0, 0, 0, 0]", "not all 0"),
        ("overlap: 0", "overlap is 0"),
        ("overlap: 1.5", "overlap is 1.5"),
        ("device_bandwidth: 0", "device_bandwidth is 0"),
        ("machine_bandwidth: -1", "machine_bandwidth is -1"),
        ("hoisted_share: 1.1", "hoisted_share is 1.1"),
        ("parameter_bytes: -1", "parameter_bytes is -1"),
        ("device_latency: .nan", "device_latency is nan"),
    ],
)
def test_refuses_what_is_no_profile(tmp_path, text, words):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_profile(tmp_path / "p.yaml")
