"""What the mini-batch size does to the efficiency of training and to the prediction error: the assignment."""
