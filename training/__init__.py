"""What makes the bundle: data, training, evaluation, figures. See `python -m training --help`."""
