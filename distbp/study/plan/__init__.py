"""Which batch size and how many ranks to ask for.

`run` asks and measures, with the stopwatch of `calibration`; `model` predicts; `figures` and the templates report.
"""
