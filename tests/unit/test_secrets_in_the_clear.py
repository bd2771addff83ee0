"""No secret of a configuration goes over plain http to another machine unless the site says so."""

import pytest
from pydantic import ValidationError

from pipeline.setting_archives import DicomwebArchive
from pipeline.settings import EndpointSettings

LOCAL = ("http://127.0.0.1:8042/x", "http://localhost/x", "http://[::1]:80/x", "https://pacs.example/x")
FAR = (
    "http://pacs.example/x",
    "HTTP://10.0.0.5/x",
    "http://127.0.0.1.example/x",
    "http://localhost.example/x",
)


@pytest.mark.parametrize("secret", [{"token": "t"}, {"username": "u", "password": "p"}, {}])
@pytest.mark.parametrize("url", [*LOCAL, *FAR])
def test_an_archive(url: str, secret: dict[str, str]) -> None:
    given = {"kind": "dicomweb", "url": url, **secret}
    if secret and url in FAR:
        with pytest.raises(ValidationError, match="over plain http") as caught:
            DicomwebArchive.model_validate(given)
        assert "pacs.example" not in str(caught.value.errors(include_input=False, include_url=False))
        DicomwebArchive.model_validate({**given, "plain_http": True})
    else:
        DicomwebArchive.model_validate(given)


@pytest.mark.parametrize("url", FAR)
def test_a_models_server(url: str) -> None:
    given = {"url": url, "model": "m", "api_key": "k"}
    with pytest.raises(ValidationError, match="over plain http"):
        EndpointSettings.model_validate(given)
    EndpointSettings.model_validate({**given, "plain_http": True})
    EndpointSettings.model_validate({**given, "api_key": ""})
