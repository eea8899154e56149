"""How long growth inhibitors take at the WebUI's start: every call of theirs is timed. Only for tests/webui."""

import functools
import gc
import time

from modules import script_callbacks, scripts

seconds = {}


def timed(name, call):
    @functools.wraps(call)
    def run(*args, **kwargs):
        # the thread's own time: the WebUI loads the checkpoint in another one meanwhile; and a collection of the
        # whole heap (0.3 s) hits whoever makes objects at that moment
        collecting = gc.isenabled()  # not within another of them, which counts this one's time as well
        gc.disable()
        started = time.thread_time()
        try:
            return call(*args, **kwargs)
        finally:
            if collecting:
                seconds[name] = seconds.get(name, 0) + time.thread_time() - started
                gc.enable()

    return run


def before_ui():
    """Comes before those of growth inhibitors, whose folder is later in the alphabet."""
    seconds.clear()
    for callbacks in script_callbacks.callback_map.values():
        for callback in callbacks:
            if callback.name.endswith("growth_inhibitors"):
                callback.callback = timed(callback.name.split("/")[2], callback.callback)
    for data in scripts.scripts_data:
        if data.script_class.__name__ == "GrowthInhibitorsScript":
            data.script_class.ui = timed("ui", data.script_class.ui)


script_callbacks.on_before_ui(before_ui)
script_callbacks.on_app_started(lambda blocks, app: app.add_api_route("/gie-test/seconds", lambda: seconds))
