"""One exact gradient step, or many approximate ones? And what is an error made of?

`race` and `split` are the two parts and say what they measure, `objective` is the exact gradient and L-BFGS, `run` says
what is trained; `heats` is what the race came to, `figures` and the templates report.
"""
