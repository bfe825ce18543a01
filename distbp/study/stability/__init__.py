"""How stable training is: what one example of the data does to the network."""
