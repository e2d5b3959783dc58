"""What does PDPO come to on GSM8K beside DPO? `python -m experiments.gsm8k.small --data FOLDER`, about an hour.

That is at laptop scale: real text, a model from scratch. For runs of one's own,
`python -m experiments.gsm8k pairs --better FILE --own FILE --out FILE` makes preference pairs,
`python -m experiments.gsm8k rankings --solutions FILE --out FILE` rankings of real solutions, correct above wrong, and
`python -m experiments.gsm8k compare --pdpo RUN… --dpo RUN…` puts finished runs beside each other, seed by seed.
"""
