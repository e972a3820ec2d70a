"""Entry of `python -m training`."""

import os
import sys

from training.cli import main

# TensorFlow 2.21 says of an attribute of its own, in each training and as an error, that it does not know it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

sys.exit(main())
