"""TensorBoard's event files, by its own writer: needs neither TensorFlow nor PyTorch."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event as Record
from tensorboard.compat.proto.event_pb2 import SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo
from tensorboard.plugins.text import metadata as text
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from recaffe.engines.base import Event
from recaffe.track.log import Start, numbers_of

_FILES = "events.out.tfevents.*"
_SECONDS_BETWEEN_WRITES = 5


class TensorBoard:
    """Writes a training to `folder`, whose earlier event files are removed: the log tells all anew."""

    name = "TensorBoard"

    def __init__(self, folder: Path, settings: dict[str, Any], texts: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(_FILES):
            old.unlink()
        self._writer = EventFileWriter(str(folder), flush_secs=_SECONDS_BETWEEN_WRITES)
        self._add(0, time.time(), session_log=SessionLog(status=SessionLog.START))
        self._settings(settings)
        for name, said in texts.items():
            self._text(name, said)

    def see(self, event: Event | Start, when: float) -> None:
        """Write an event's numbers."""
        if isinstance(event, Start):
            # Readers forget what they have of this step and later ones.
            self._add(event.iteration, when, session_log=SessionLog(status=SessionLog.START))
            return
        values = [Summary.Value(tag=k, simple_value=v) for k, v in numbers_of(event).items()]
        self._add(event.iteration, when, summary=Summary(value=values))

    def flush(self) -> None:
        """Nothing to do: the writer does so by itself."""

    def close(self, status: str) -> None:
        """The end, however it came."""
        info = hparams.SESSION_END_INFO_TAG
        content = HParamsPluginData()
        content.session_end_info.end_time_secs = time.time()
        content.session_end_info.status = 1 if status == "FINISHED" else 2
        self._hparams(info, content)
        self._writer.close()

    def _settings(self, settings: dict[str, Any]) -> None:
        start = SessionStartInfo(start_time_secs=time.time())
        for key, value in settings.items():
            if isinstance(value, bool):
                start.hparams[key].bool_value = value
            elif isinstance(value, int | float):
                start.hparams[key].number_value = value
            else:
                start.hparams[key].string_value = (
                    value if isinstance(value, str) else json.dumps(value)
                )
        self._hparams(hparams.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start))

    def _hparams(self, tag: str, content: HParamsPluginData) -> None:
        value = Summary.Value(
            tag=tag, metadata=hparams.create_summary_metadata(content), tensor=hparams.NULL_TENSOR
        )
        self._add(0, time.time(), summary=Summary(value=[value]))

    def _text(self, name: str, said: str) -> None:
        # Markdown's form of text that is to be left as it is.
        markdown = "\n".join(f"    {line}" for line in said.splitlines())
        tensor = TensorProto(
            dtype=DT_STRING,
            string_val=[markdown.encode()],
            tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
        )
        plugin = SummaryMetadata.PluginData(plugin_name=text.PLUGIN_NAME)
        value = Summary.Value(tag=name, metadata=SummaryMetadata(plugin_data=plugin), tensor=tensor)
        self._add(0, time.time(), summary=Summary(value=[value]))

    def _add(self, step: int, when: float, **content: Any) -> None:
        self._writer.add_event(Record(step=step, wall_time=when, **content))
