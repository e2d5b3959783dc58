"""How much reward does a nat of KL buy? `python -m experiments.frontier --data FOLDER`: IMDb reviews, as in the
DPO paper's section 6.1.

A language model of the reviews goes on from their beginnings; a classifier says how positive that is. Every method of
the sweep starts from it, with several seeds, at the best of its family's rates (chosen on other beginnings), and every
checkpoint is a point. What is done stays under --out, so that a stopped sweep goes on.
"""
