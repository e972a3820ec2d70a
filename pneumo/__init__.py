"""pneumo reads chest radiographs for pneumonia with three networks and shows where each looked.

For research and teaching, not for diagnosis. Importing it imports no TensorFlow: that is delayed to `load_bundle`.

Examples
--------
>>> from pneumo import Examiner, load_bundle, read_radiograph
>>> examiner = Examiner(load_bundle())  # doctest: +SKIP
>>> examiner.examine(read_radiograph("radiograph.jpeg")).headline  # doctest: +SKIP
'All three networks call pneumonia.'
"""

import os

# Before anything imports huggingface_hub, which reads it once: nothing is reported to anyone.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from pneumo.bundle import Bundle, load_bundle
from pneumo.errors import PneumoError
from pneumo.examination import Examination, Examiner
from pneumo.radiograph import Radiograph, read_radiograph

__all__ = ["Bundle", "Examination", "Examiner", "PneumoError", "Radiograph", "load_bundle", "read_radiograph"]
__version__ = "0.1.0"
