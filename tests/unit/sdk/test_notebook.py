"""What a notebook shows of a search: results show themselves, a watched handle draws each front and then the end."""

import json
import sys

import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell

from rlaas_ray.errors import Unavailable, WorkFailed
from rlaas_ray.sdk import exchange, handles, notebook, results
from tests.unit.pictures.documents import events, result


class Api:
    """Answers for one run: queued, then its events, then its end."""

    url, in_process = "http://api", True

    def __init__(self, *, state: str = "succeeded") -> None:
        self.document = {
            "id": "optimize-1",
            "kind": "optimize",
            "state": "running",
            "progress": {"message": "3 points"},
        }
        self._state = state

    def events(self, run_id: str, *, after: int = 0):
        for seq, data in enumerate(events(3), start=1):
            yield exchange.Event(seq=seq, kind="front", data=data)
        yield exchange.Event(seq=4, kind="state", data={"state": self._state})
        self.document |= {"state": self._state, "result": result() if self._state == "succeeded" else None}

    def get(self, path: str, **params):
        return result() if path.endswith("/front") else dict(self.document)


@pytest.fixture
def search() -> handles.Search:
    return handles.run_of(Api(), dict(Api().document))


def test_a_watched_search_is_drawn_at_each_front_and_at_its_end(search) -> None:
    shown: list[str] = []
    found = search.watch(show=shown.append)
    assert isinstance(found, results.OptimizationResult)
    assert len(shown) == 1 + 3 + 1
    assert "no front yet" in shown[0]
    assert ["generation 10:" in shown[1], "generation 30:" in shown[3]] == [True, True]
    assert "Chosen:" in shown[4]


def test_a_search_that_failed_is_said_and_raised() -> None:
    shown: list[str] = []
    with pytest.raises(WorkFailed):
        handles.run_of(Api(state="failed"), dict(Api().document)).watch(show=shown.append)
    assert "Run optimize-1 failed" in shown[-1]


def test_results_and_fronts_show_themselves(search) -> None:
    found = results.of_run({"id": "optimize-1", "kind": "optimize", "state": "succeeded", "result": result()})
    for one in (found, found.front, search.front()):
        assert one._repr_html_().count("<svg") >= 1
    assert "optimize-1 running: 3 points" in search._repr_html_()
    assert found.front == result()["front"]
    assert json.loads(json.dumps(found.front)) == result()["front"]


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    made = InteractiveShell.instance(display_pub_class=CapturingDisplayPublisher)
    made.history_manager.enabled = False
    yield made
    made.history_manager.end_session()
    InteractiveShell.clear_instance()


def test_a_cell_is_drawn_once_and_then_replaced(shell) -> None:
    show = notebook.cell()
    show("<b>1</b>")
    show("<b>2</b>")
    first, second = shell.display_pub.outputs
    assert [first["data"]["text/html"], second["data"]["text/html"]] == ["<b>1</b>", "<b>2</b>"]
    assert (first.get("update"), second.get("update")) == (False, True)
    assert first["transient"] == second["transient"]


def test_without_ipython_the_way_out_is_said(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(Unavailable) as caught:
        notebook.cell()
    assert "rlaas-ray[notebook]" in caught.value.cure
