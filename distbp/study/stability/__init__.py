"""How stable training is: what one example of the data does to the network.

`twins` are the two data sets and `bound` is the theory, `run` says what is trained, `results` what it says; `figures`
and the templates report.
"""
