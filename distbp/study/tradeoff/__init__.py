"""One exact gradient step, or many approximate ones? And what is an error made of?"""
