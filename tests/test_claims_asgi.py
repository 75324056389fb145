"""A session per request under ASGI and with FastAPI: what each remedy does with each hazard."""

import pytest

from lab.judge import judge


@pytest.mark.claim("asgi-middleware-right")
def test_middleware_right(evidence):
    """A global session leaks, and makes failed requests' changes permanent; with the recipe every hazard ends well."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("asgi-base-http-middleware")
def test_base_http_middleware(evidence):
    """remove() after call_next comes before the body and any background task, and not at all after an exception."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("asgi-with-in-the-endpoint")
def test_with_in_the_endpoint(evidence):
    """An endpoint's own session ends before a streamed body, and a generator's stays open when its client leaves."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("asgi-remove-in-another-thread")
def test_remove_in_another_thread(evidence):
    """In the event loop's thread remove() finds none of the sessions that endpoints in the thread pool have used."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("asgi-cancelled-request")
def test_cancelled_request(evidence):
    """A query that is cancelled gives up its connection by itself; between two queries somebody has to."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("asgi-client-gone-real")
def test_client_gone_real(evidence):
    """Under a real uvicorn a client's reset leaves a transaction open, and with the recipes it does not."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fastapi-yield-dependency")
def test_yield_dependency(evidence):
    """A dependency that yields within with, or closes in finally, ends well whatever happens."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fastapi-yield-without-finally")
def test_yield_without_finally(evidence):
    """What ends by an exception never comes to the code after the yield."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fastapi-function-scope-truncates")
def test_function_scope_truncates(evidence):
    """A dependency of function scope has closed its session before the body is streamed."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fastapi-recipe-right")
def test_recipe_right(evidence):
    """With the recipe every hazard ends well."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fastapi-background-task-session")
def test_background_task_session(evidence):
    """A background task has the session of its request if that is closed after the response, and else a leak."""
    assert "reproduced" == judge(evidence).kind
