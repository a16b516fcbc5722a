"""Keys and passwords are refused before a run folder exists, and never repeated."""

import pytest

from ovmer.baselines.errors import PrerequisiteError
from tests.runners.jobs import job

SECRET = "hunter2hunter2hunter2"


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        (f"engine.base_url=http://me:{SECRET}@host/v1", "engine.base_url holds a password"),
        (f"+engine.api_key={SECRET}", "engine.api_key holds a secret"),
        (f"engine.key_variable=sk-{SECRET}", "engine.key_variable is no name of an environment"),
        (f"+baseline.parameters={{api_key:{SECRET}}}", "baseline.parameters.api_key holds a"),
        (
            f"+baseline.parameters={{extra_headers:{{Authorization:'Bearer {SECRET}'}}}}",
            "baseline.parameters.extra_headers.Authorization holds a secret",
        ),
        (f"variant=sk-{SECRET}", "variant holds a secret"),
        (f"baseline.model=hf_{SECRET}", "baseline.model holds a secret"),
    ],
)
def test_a_secret_is_refused_by_the_name_of_its_setting(setting, named):
    with pytest.raises(PrerequisiteError, match=named) as caught:
        job("baseline=served", "engine=server", setting)
    assert "hunter2" not in str(caught.value)


def test_settings_that_only_sound_like_secrets_pass():
    made = job("baseline=served", "engine=server", "engine.key_variable=MY_KEY", "batch_tokens=7")
    assert made.settings.engine["key_variable"] == "MY_KEY"
