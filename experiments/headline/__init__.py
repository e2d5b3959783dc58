"""Do our figures reach the papers'? `python -m experiments.headline --pdpo RUN --dpo RUN` puts them side by side.

headline.json holds 34 rows of papers, with where each was read. A figure of ours stands beside one of theirs as "not
comparable (scale)" unless model, data and judge are the same. And the source's own gain is tested from its counts.
"""
