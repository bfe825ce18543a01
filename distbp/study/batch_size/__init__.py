"""What the mini-batch size does to the efficiency of training and to the prediction error: the lecture's assignment.

`run` says what is trained, `results` what the trials say, `scaling` fits the curve; `figures` and templates report.
"""
